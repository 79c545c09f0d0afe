"""What the applications of this folder share: handlers that take turns, each in a span of its own, and work outside spans."""

import contextlib
import json
import random
import sys

from busy import busy_function, identity, tracer

SECONDS = float(sys.argv[1])
"""CPU time that all handlers use together."""
MODE = sys.argv[2] if len(sys.argv) > 2 else ""

outside = busy_function("busy_outside")
expected = {}
"""For each handler the labels that samples of its busy function must have."""


def steps(kind, part=1.0):
    """Yield the length of each step of a handler, 2 to 12 ms, until they add up to its eighth of the work, or a part of it."""
    lengths = random.Random(kind)  # noqa: S311 - the same lengths in each run, and no two handlers in step
    seconds = SECONDS / 8 * part
    while seconds > 0:
        length = lengths.uniform(0.002, 0.012)
        seconds -= length
        yield length


@contextlib.contextmanager
def handler(kind):
    """Make a span of this name current, and give the function whose samples must carry it."""
    with tracer.start_as_current_span(f"GET /{kind}") as span:
        expect(kind, span)
        yield busy_function(f"busy_{kind}")


def expect(kind, span):
    expected[kind] = {**identity(span), "span_name": f"GET /{kind}"}


def tell(**more):
    """Work outside all spans once more, now that nobody takes turns, and tell the test what to expect."""
    outside(SECONDS / 5)
    print(json.dumps({"expected": expected, **more}))
