"""Forks inside a span; parent and child both work on."""

import json
import os
import sys
import threading

from busy import busy_function, identity, tracer

# Another thread with a span of its own, which does not exist in the child.
stop = threading.Event()


def other():
    with tracer.start_as_current_span("other thread"):
        stop.wait()


thread = threading.Thread(target=other)
thread.start()

read, write = os.pipe()
with tracer.start_as_current_span("forking") as span:
    child = os.fork()
    if child == 0:
        busy_function("busy_inherited")(0.6)
        with tracer.start_as_current_span("child's own", context=__import__("opentelemetry.context").context.Context()) as own:
            busy_function("busy_own_span")(0.6)
        os.write(write, json.dumps(identity(own)).encode())
    else:
        busy_function("busy_parent")(0.6)
if child == 0:
    busy_function("busy_outside")(0.5)
    sys.exit(0)
own = json.loads(os.read(read, 1000))
_, status = os.waitpid(child, 0)
stop.set()
thread.join()
print(json.dumps({"inherited": identity(span), "own": own}))
sys.exit(os.waitstatus_to_exitcode(status))
