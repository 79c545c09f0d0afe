"""Eight tasks of one event loop take turns, each in a span of its own, in steps of 2 to 12 ms."""

import asyncio
import json
import sys

from busy import busy_function, identity, tracer

SECONDS = float(sys.argv[1])
told = {}


async def handle(number):
    busy = busy_function(f"busy_{number}")
    with tracer.start_as_current_span(f"GET /{number}") as span:
        told[number] = identity(span)
        used = 0.0
        step = 0
        while used < SECONDS / 8:
            seconds = 0.002 + 0.001 * ((number * 3 + step * 7) % 11)
            busy(seconds)
            used += seconds
            step += 1
            await asyncio.sleep(0)


async def main():
    await asyncio.gather(*map(handle, range(8)))


asyncio.run(main())
busy_function("busy_outside")(1.5)
print(json.dumps(told))
