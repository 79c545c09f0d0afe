"""Eight threads, each in a span of its own, at the same time."""

import json
import threading

from busy import busy_function, identity, tracer

told = {}


def handle(number):
    busy = busy_function(f"busy_{number}")
    with tracer.start_as_current_span(f"GET /{number}") as span:
        told[number] = identity(span)
        busy(0.8)
    busy_function("busy_outside")(0.1)


threads = [threading.Thread(target=handle, args=(number,)) for number in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(json.dumps(told))
