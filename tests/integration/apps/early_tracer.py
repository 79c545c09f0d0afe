"""Begins profiling in code, after modules have made tracers and a span was started; run without opentelemetry-instrument."""

import json

from busy import busy_function, identity, tracer
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from otel_profiling_configurator import activate

provider = TracerProvider()
provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
trace.set_tracer_provider(provider)
of_provider = provider.get_tracer("made before")
of_provider.start_span("so is its class's way to make spans").end()
tracer.start_span("the proxy has found its tracer").end()
activate()
told = {}
for name, early in (("of_provider", of_provider), ("of_api", tracer)):
    with early.start_as_current_span(name) as span:
        busy_function(f"busy_{name}")(0.7)
    told[name] = identity(span)
print(json.dumps(told))
