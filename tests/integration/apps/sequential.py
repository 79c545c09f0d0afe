"""One span after another on the main thread, with children, and work outside any span in between."""

import json

from busy import busy_function, identity, tracer

told = {}
for number in range(3):
    busy_function("busy_outside")(0.6)
    with tracer.start_as_current_span(f"GET /{number}") as root:
        busy_function(f"busy_root_{number}")(0.5)
        with tracer.start_as_current_span(f"query {number}") as child:
            busy_function(f"busy_child_{number}")(0.5)
    told[number] = {"root": identity(root), "child": identity(child)}
busy_function("busy_outside")(0.6)
print(json.dumps(told))
