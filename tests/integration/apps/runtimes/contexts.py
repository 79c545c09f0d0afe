"""A scheduler nobody has heard of: generators that take turns, each entered with `contextvars.Context.run`."""

import contextvars

from turns import handler, outside, steps, tell


def handle(kind):
    with handler(kind) as busy:
        for length in steps(kind):
            yield busy(length)


running = [(contextvars.Context(), handle(f"context_{number}")) for number in range(8)]
idle = steps("idle")
while running:
    outside(next(idle, 0))
    for context, generator in list(running):
        try:
            context.run(next, generator)
        except StopIteration:
            running.remove((context, generator))
tell()
