"""Works in calls of a native library's thread, each in a span of its own; prints the CPU time of all."""

import ctypes
import json
import sys
import time

from busy import tracer


def busy_called(seconds):
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


used = []


@ctypes.CFUNCTYPE(None)
def called():
    with tracer.start_as_current_span("called"):
        before = time.thread_time()
        busy_called(0.02)
        used.append(time.thread_time() - before)


ctypes.CDLL(sys.argv[1]).call_on_thread(called, 100)
print(json.dumps({"cpu_seconds": sum(used)}))
