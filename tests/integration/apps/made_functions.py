"""Functions that are made from text, called once in a span of their own name, and gone: each begins where the last one was."""

import json
import sys
import time

from busy import tracer

SECONDS, OF_ONE = float(sys.argv[1]), float(sys.argv[2])

SOURCE = """
def made_{number:06d}(end):
    # Of the same length, with the same constants: only what it is called differs.
    x = 0
    while perf_counter() < end:
        x += 1
    return x
"""


def call(number: int) -> None:
    """Make a function of this number, and call it."""
    namespace = {"perf_counter": time.perf_counter}
    exec(compile(SOURCE.format(number=number), f"made_{number:06d}.py", "exec"), namespace)
    with tracer.start_as_current_span(f"made_{number:06d}"):
        namespace[f"made_{number:06d}"](time.perf_counter() + OF_ONE)


number = 0
end = time.perf_counter() + SECONDS
while time.perf_counter() < end:
    number += 1
    call(number)
print(json.dumps(number))
