"""Works, says so, and is then ended from outside, or by itself as its first argument says."""

import json
import os
import signal
import sys
import time

from busy import busy_function, identity, tracer


def handle(*_):
    sys.exit(0)


how = sys.argv[1]
if how == "handler":
    signal.signal(signal.SIGTERM, handle)
function = f"busy_{os.getpid()}"
with tracer.start_as_current_span(f"GET {function}") as span:
    busy_function(function)(0.3)
print(json.dumps({"pid": os.getpid(), "function": function, **identity(span)}), flush=True)
if how == "exception":
    raise RuntimeError("the application's own")
if how == "exit":
    sys.exit(0)
for _ in range(600):
    time.sleep(0.1)  # a signal that comes just before a sleep interrupts only the next one
