"""Spans that are renamed, never made current, ended while current or on another thread, remote, or decorators."""

import asyncio
import json
import threading

from busy import busy_function, identity, tracer
from opentelemetry import context, trace
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

told = {}

busy_function("busy_until_the_sampler_has_begun")(0.5)
with tracer.start_as_current_span("GET") as span:
    told["renamed"] = identity(span)
    busy_function("busy_before_rename")(0.5)
    with tracer.start_as_current_span("child") as child:
        child.update_name("renamed child")
        span.update_name("GET /users/{id}")
        busy_function("busy_child_after_rename")(0.5)
    busy_function("busy_after_rename")(0.5)

span = tracer.start_span("never current")
busy_function("busy_never_current")(0.5)
span.end()

with tracer.start_as_current_span("ended while current") as span:
    told["ended"] = identity(span)
    span.end()
    busy_function("busy_after_end")(0.5)

span = tracer.start_span("elsewhere")
told["elsewhere"] = identity(span)
token = context.attach(trace.set_span_in_context(span))
thread = threading.Thread(target=span.end)
thread.start()
thread.join()
busy_function("busy_ended_elsewhere")(0.5)
context.detach(token)


@tracer.start_as_current_span("decorated")
async def decorated():
    busy = busy_function("busy_decorated")
    for _ in range(5):
        busy(0.1)
        await asyncio.sleep(0.001)


asyncio.run(decorated())

carrier = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
with tracer.start_as_current_span("remote child", context=TraceContextTextMapPropagator().extract(carrier)) as span:
    told["remote"] = identity(span)
    busy_function("busy_remote")(0.5)

busy_function("busy_at_the_end")(0.3)
print(json.dumps(told))
