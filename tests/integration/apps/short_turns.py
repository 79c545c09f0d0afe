"""Handlers that take turns of a fraction of a millisecond, each in a span of its own: tasks of asyncio, greenlets or threads.

Arguments: which of them, how many, seconds of a turn, seconds of all.
"""

import asyncio
import json
import sys
import threading

from busy import busy_function, tracer

KIND, COUNT, TURN, SECONDS = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4])
TURNS = int(SECONDS / COUNT / TURN)


async def tasks():
    async def task(number):
        work = busy_function(f"busy_{number}")
        with tracer.start_as_current_span(f"turn {number}"):
            for _ in range(TURNS):
                work(TURN)
                await asyncio.sleep(0)

    await asyncio.gather(*(task(number) for number in range(COUNT)))


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


if KIND == "tasks":
    asyncio.run(tasks())
else:
    {"greenlets": greenlets, "threads": threads}[KIND]()
print(json.dumps({f"busy_{number}": f"turn {number}" for number in range(COUNT)}))
