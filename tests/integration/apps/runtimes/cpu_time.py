"""Two tasks take turns in spans of several seconds of CPU time, and measure what each of them used."""

import asyncio
import time

from turns import expected, handler, steps, tell

cpu, wall = {}, {}


async def handle(kind):
    cpu[kind] = wall[kind] = 0.0
    with handler(kind) as busy:
        for length in steps(kind, part=4):
            thread_time, perf_counter = time.thread_time(), time.perf_counter()
            busy(length)
            cpu[kind] += time.thread_time() - thread_time
            wall[kind] += time.perf_counter() - perf_counter
            await asyncio.sleep(0)


async def main():
    await asyncio.gather(*(handle(f"task_{number}") for number in range(2)))


asyncio.run(main())
assert set(cpu) == set(expected)
tell(cpu=cpu, wall=wall)
