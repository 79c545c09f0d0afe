"""A destructor attaches a span while its thread ends, and nobody detaches it; threads that come later have no span.

Argument: how many threads of each kind. Tells by how many bytes the process has grown since half of them had ended.
"""

import gc
import json
import resource
import sys
import threading

from busy import busy_function, tracer
from opentelemetry import context, trace

COUNT = int(sys.argv[1])
busy_span, busy_plain = busy_function("busy_span"), busy_function("busy_plain")
local = threading.local()


class Late:
    def __del__(self):
        context.attach(trace.set_span_in_context(span))


def with_span():
    local.late = Late()
    with tracer.start_as_current_span("GET /"):
        busy_span(0.002)


def plain():
    busy_plain(2 / COUNT)


def run(target):
    thread = threading.Thread(target=target)
    thread.start()
    thread.join()


span = tracer.start_span("late")
for number in range(COUNT):
    run(with_span)
    run(plain)
    if number == COUNT // 2:
        gc.collect()
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
gc.collect()
print(json.dumps({"grown": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024}))
