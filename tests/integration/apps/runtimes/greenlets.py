"""Bare greenlets that a loop of the application's own switches between; with a tracer of its own if asked to."""

import contextvars

import greenlet
from turns import MODE, handler, outside, steps, tell

traced = []
if MODE == "tracer":
    greenlet.settrace(lambda event, _greenlets: traced.append(event))

main = greenlet.getcurrent()
switches = 0


def work(busy, kind, **part):
    for length in steps(kind, **part):
        busy(length)
        main.switch()


def handle(kind):
    with handler(kind) as busy:
        work(busy, kind)


def inherited(kind):
    """Starts two greenlets that are given the context that is current here."""
    with handler(kind) as busy:
        for half in range(2):
            started = greenlet.greenlet(work)
            started.gr_context = contextvars.copy_context()
            # `main` resumes it once it has made its first step, so it is to end there as well.
            started.parent = main
            running.append((started, (busy, f"{kind}_{half}")))
        work(busy, kind, part=0.2)


running = [(greenlet.greenlet(handle), (f"greenlet_{number}",)) for number in range(7)]
running.append((greenlet.greenlet(inherited), ("inherited",)))
running.append((greenlet.greenlet(work), (outside, "no_span")))
idle = steps("idle")
while running:
    outside(next(idle, 0))
    for entry in list(running):
        runs, arguments = entry
        runs.switch(*(arguments if not runs else ()))
        switches += 1
        if runs.dead:
            running.remove(entry)
tell(traced=traced.count("switch"), switches=switches)
