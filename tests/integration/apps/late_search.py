"""Works in a span until samples have been taken, and prints how many reads were refused, see `test_search.py`."""

import ctypes
import json
import time

from opentelemetry import trace


def busy_searched(seconds):
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


with trace.get_tracer(__name__).start_as_current_span("work"):
    busy_searched(1)
print(json.dumps({"refused": ctypes.c_int.in_dll(ctypes.CDLL(None), "reads_refused").value}))
