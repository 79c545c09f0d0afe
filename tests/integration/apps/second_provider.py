"""Has a tracer provider of its own beside the global one, as several observability libraries do."""

import json

from busy import busy_function, identity, tracer
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

provider = TracerProvider()
provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
own = provider.get_tracer("own")
told = {}
with own.start_as_current_span("own") as span:
    told["own"] = identity(span)
    busy_function("busy_own")(0.7)
    with tracer.start_as_current_span("child of the other provider's"):
        busy_function("busy_child")(0.7)
with tracer.start_as_current_span("global") as span:
    told["global"] = identity(span)
    busy_function("busy_global")(0.7)
    with own.start_as_current_span("child"):
        busy_function("busy_own_child")(0.7)
print(json.dumps(told))
