"""Sets its tracer provider up itself, with tracers obtained before and after that."""

import json

from busy import busy_function, identity, tracer
from installed import what_is_installed
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

provider = TracerProvider()
provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
trace.set_tracer_provider(provider)
with tracer.start_as_current_span("installed") as span:
    busy_function("busy_installed")(0.7)
print(json.dumps({**identity(span), **what_is_installed()}))
