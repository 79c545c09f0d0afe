"""A destructor attaches a span while its thread ends, and nobody detaches it; threads that come later have no span.

Tells by how many bytes the process grows with some thousand such threads.
"""

import gc
import json
import resource
import threading

from busy import busy_function, tracer
from opentelemetry import context, trace

SHORT, LONG, VERY_MANY = 0.002, 0.02, 10_000
busy_span, busy_plain = busy_function("busy_span"), busy_function("busy_plain")
local = threading.local()


class Late:
    def __del__(self):
        context.attach(trace.set_span_in_context(span))


def with_span(seconds=SHORT):
    local.late = Late()
    with tracer.start_as_current_span("GET /"):
        busy_span(seconds)


def plain():
    busy_plain(LONG)


def without_work():
    with_span(0)


def run(target, times=1):
    for _ in range(times):
        thread = threading.Thread(target=target)
        thread.start()
        thread.join()


def most_memory():
    gc.collect()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


span = tracer.start_span("late")
for _ in range(100):
    run(with_span)
    run(plain)
run(without_work, VERY_MANY // 5)
before = most_memory()
run(without_work, VERY_MANY)
print(json.dumps({"grown": most_memory() - before}))
