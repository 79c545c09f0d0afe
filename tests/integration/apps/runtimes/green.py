"""What gevent's and eventlet's applications do alike: green threads, some from a pool, and threads that are green ones."""

import threading

from opentelemetry import context
from turns import handler, outside, steps, tell


def take_turns(spawn, spawn_in_pool, wait, sleep):
    """Have handlers of every kind take turns, and tell the test what to expect.

    Args:
        spawn: Starts a green thread, given a function and its arguments.
        spawn_in_pool: The same, in a pool of three.
        wait: Waits for a green thread, and raises what it has raised.
        sleep: Lets others run for that many seconds at least.
    """

    def work(busy, kind, **part):
        for length in steps(kind, **part):
            busy(length)
            sleep(0)

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
            for half in [spawn(work_in, parent, busy, f"{kind}_{half}", part=0.5) for half in range(2)]:
                wait(half)

    threads = [threading.Thread(target=handle, args=(f"thread_{number}",)) for number in range(2)]
    for thread in threads:
        thread.start()
    green_threads = [spawn(handle, f"spawned_{number}") for number in range(2)]
    green_threads += [spawn_in_pool(handle, f"pooled_{number}") for number in range(3)]
    green_threads += [spawn(inherited, "inherited"), spawn(work, outside, "no_span")]
    for green_thread in green_threads:
        wait(green_thread)
    for thread in threads:
        thread.join()
    tell()
