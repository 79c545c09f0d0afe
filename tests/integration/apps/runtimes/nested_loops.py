"""A running event loop runs others inside, and a script runs one piece by piece, as notebooks do it (nest_asyncio)."""

import asyncio

import nest_asyncio
from turns import MODE, handler, outside, steps, tell

nest_asyncio.apply()


async def others(kind):
    with handler(kind) as busy:
        for length in steps(kind):
            busy(length)
            await asyncio.sleep(0)


async def pause():
    await asyncio.sleep(0)
    await asyncio.sleep(0)


async def nesting(kind):
    with handler(kind) as busy:
        for length in steps(kind):
            asyncio.get_event_loop().run_until_complete(pause())
            busy(length)
            await asyncio.sleep(0)


async def main():
    await asyncio.gather(*(others(f"other_{number}") for number in range(3)), *(nesting(f"nesting_{n}") for n in range(3)))


def script():
    """The loop goes on with a task whenever the script lets it."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    task = loop.create_task(others("task"))
    with handler("script") as busy:
        for length in steps("script"):
            loop.run_until_complete(pause())
            busy(length)
    loop.run_until_complete(task)
    loop.close()


assert not MODE
asyncio.run(main())
outside(0.1)
script()
tell()
