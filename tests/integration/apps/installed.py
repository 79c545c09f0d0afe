"""Says how often we are installed in this process; run as an application, also works inside a span."""

import json

import opentelemetry.context as context_api
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from otel_profiling_configurator import ProfilingTracerProvider
from otel_profiling_configurator.context import labelling
from otel_profiling_configurator.context.python_form import ProfilingRuntimeContext


def what_is_installed():
    provider, wrappings = trace.get_tracer_provider(), 0
    runtime_context, followers = context_api._RUNTIME_CONTEXT, int(labelling._is_native)
    is_sdk = isinstance(provider, TracerProvider)
    while type(provider) is ProfilingTracerProvider:
        provider, wrappings = provider.__wrapped__, wrappings + 1
    while type(runtime_context) is ProfilingRuntimeContext:
        runtime_context, followers = runtime_context.inner, followers + 1
    return {"wrappings": wrappings, "followers": followers, "is_sdk": is_sdk}


if __name__ == "__main__":
    from busy import busy_function, identity, tracer

    with tracer.start_as_current_span("installed") as span:
        busy_function("busy_installed")(0.7)
    print(json.dumps({**identity(span), **what_is_installed()}))
