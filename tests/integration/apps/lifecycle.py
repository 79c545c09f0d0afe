"""Ends in the way that its first argument names, having done some labelled work."""

import os
import sys

from busy import busy_function, tracer

print("working", flush=True)
with tracer.start_as_current_span("work"):
    busy_function("busy_work")(0.3)
print("worked", flush=True)
print("to stderr", file=sys.stderr)
match sys.argv[1]:
    case "return":
        pass
    case "exit":
        sys.exit(3)
    case "message":
        sys.exit("said on the way out")
    case "exception":
        raise RuntimeError("the application's own")
    case "in-span":
        with tracer.start_as_current_span("failing"):
            raise ValueError("inside a span")
    case "os-exit":
        os._exit(4)
