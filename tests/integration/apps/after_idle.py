"""Does nothing for seconds, then works in spans of its own, for long and for moments; prints the CPU time of both."""

import json
import time

from busy import busy_function, tracer

work = {"busy_long": busy_function("busy_long"), "busy_moments": busy_function("busy_moments")}
used = dict.fromkeys(work, 0.0)


def busy(name, seconds):
    before = time.thread_time()
    with tracer.start_as_current_span(name):
        work[name](seconds)
    used[name] += time.thread_time() - before


for _ in range(2):
    time.sleep(3)
    busy("busy_long", 0.5)
    for _ in range(20):
        time.sleep(0.1)
        busy("busy_moments", 0.02)
print(json.dumps(used))
