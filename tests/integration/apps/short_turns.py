"""Handlers that take turns of a fraction of a millisecond, each in a span of its own: tasks of asyncio, greenlets or threads.

Tasks also with baggage of their own, or with a tag that the application adds to its thread for each turn.
Arguments: which of them, how many, seconds of a turn, seconds of all.
"""

import asyncio
import contextlib
import json
import sys
import threading

from busy import busy_function, tracer
from opentelemetry import baggage, context

KIND, COUNT, TURN, SECONDS = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4])
TURNS = int(SECONDS / COUNT / TURN)


async def tasks(tagged=lambda _number: contextlib.nullcontext(), with_baggage=False):
    async def task(number):
        work = busy_function(f"busy_{number}")
        with tracer.start_as_current_span(f"turn {number}"):
            if with_baggage:
                context.attach(baggage.set_baggage("tenant", f"tenant {number}"))
            for _ in range(TURNS):
                with tagged(number):
                    work(TURN)
                await asyncio.sleep(0)

    await asyncio.gather(*(task(number) for number in range(COUNT)))


def tags():
    import pyroscope  # noqa: PLC0415 - as below

    return tasks(lambda number: pyroscope.tag_wrapper({"tenant": f"tenant {number}"}))


def greenlets():
    import greenlet  # noqa: PLC0415 - the other kinds do without it

    main = greenlet.getcurrent()

    def one(number):
        work = busy_function(f"busy_{number}")
        with tracer.start_as_current_span(f"turn {number}"):
            for _ in range(TURNS):
                work(TURN)
                main.switch()

    alive = [(greenlet.greenlet(one), number) for number in range(COUNT)]
    while alive:
        for runs, number in alive:
            runs.switch(*(() if runs else (number,)))
        alive = [(runs, number) for runs, number in alive if not runs.dead]


def threads():
    """Short spans, one after the other, on threads that come and go."""

    def one(number):
        work = busy_function(f"busy_{number}")
        for _ in range(TURNS):
            with tracer.start_as_current_span(f"turn {number}"):
                work(TURN)

    for number in range(COUNT):
        thread = threading.Thread(target=one, args=(number,))
        thread.start()
        thread.join()


if KIND in ("greenlets", "threads"):
    {"greenlets": greenlets, "threads": threads}[KIND]()
else:
    asyncio.run({"tasks": tasks, "baggage": lambda: tasks(with_baggage=True), "tags": tags}[KIND]())
tenants = KIND in ("baggage", "tags")
expected = {
    f"busy_{number}": {"span_name": f"turn {number}", "tenant": f"tenant {number}" if tenants else None}
    for number in range(COUNT)
}
print(json.dumps(expected))
