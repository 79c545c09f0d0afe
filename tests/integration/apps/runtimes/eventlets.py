"""eventlet's green threads, and threads that are green ones: patched by the application, after us."""

import threading

import eventlet
from opentelemetry import context
from turns import handler, outside, steps, tell

eventlet.monkey_patch()


def work(busy, kind, **part):
    for length in steps(kind, **part):
        busy(length)
        eventlet.sleep(0)


def handle(kind):
    with handler(kind) as busy:
        work(busy, kind)


def work_in(parent, *arguments, **part):
    """Green threads begin with an empty context: who wants another one attaches it."""
    token = context.attach(parent)
    work(*arguments, **part)
    context.detach(token)


def inherited(kind):
    with handler(kind) as busy:
        parent = context.get_current()
        halves = [eventlet.spawn(work_in, parent, busy, f"{kind}_{half}", part=0.5) for half in range(2)]
        for half in halves:
            half.wait()


pool = eventlet.GreenPool(3)
threads = [threading.Thread(target=handle, args=(f"thread_{number}",)) for number in range(2)]
for thread in threads:
    thread.start()
green_threads = [eventlet.spawn(handle, f"spawned_{number}") for number in range(2)]
green_threads += [pool.spawn(handle, f"pooled_{number}") for number in range(3)]
green_threads += [eventlet.spawn(inherited, "inherited"), eventlet.spawn(work, outside, "no_span")]
for green_thread in green_threads:
    green_thread.wait()
for thread in threads:
    thread.join()
tell()
