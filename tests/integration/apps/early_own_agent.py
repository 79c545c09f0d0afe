"""Starts Pyroscope itself, and only then, from code, the SDK and us."""

import json
import os

import pyroscope

configured = pyroscope.configure(application_name="own-name", server_address=os.environ["OTEL_PROFILING_SERVER_ADDRESS"])

import otel_profiling_configurator  # noqa: E402 - as said
from busy import busy_function, identity, tracer  # noqa: E402
from opentelemetry import trace  # noqa: E402
from opentelemetry.sdk.trace import TracerProvider  # noqa: E402

trace.set_tracer_provider(TracerProvider())
otel_profiling_configurator.activate()
with tracer.start_as_current_span("own") as span:
    busy_function("busy_own")(0.7)
print(json.dumps({"configured": configured, "ids": identity(span)}))
