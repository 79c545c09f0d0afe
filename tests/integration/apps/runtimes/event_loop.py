"""What an event loop of asyncio's kind can run, all of it taking turns: tasks, callbacks, timers, generators, groups of tasks.

Its second argument says whose loop it is and how it is started.
"""

import asyncio
import sys

from busy import busy_function, tracer
from opentelemetry import trace
from turns import MODE, expect, handler, outside, steps, tell


async def work(busy, kind, **part):
    for length in steps(kind, **part):
        busy(length)
        await asyncio.sleep(0)


async def task(kind):
    with handler(kind) as busy:
        await work(busy, kind)


async def call_soon(kind):
    await _callbacks(kind, asyncio.get_running_loop().call_soon)


async def call_later(kind):
    await _callbacks(kind, lambda step: asyncio.get_running_loop().call_later(0.001, step))


async def _callbacks(kind, schedule):
    lengths = steps(kind)
    done = asyncio.get_running_loop().create_future()

    def step():
        length = next(lengths, None)
        if length is None:
            done.set_result(None)
        else:
            busy(length)
            schedule(step)

    with handler(kind) as busy:
        schedule(step)
        await done


async def generator(kind):
    async def generate():
        for length in steps(kind):
            busy(length)
            await asyncio.sleep(0)
            yield

    with handler(kind) as busy:
        async for _ in generate():
            await asyncio.sleep(0)


async def inherited(kind):
    """Two tasks that have no span but the one that was current where they were made."""
    with handler(kind) as busy:
        await asyncio.gather(*(asyncio.create_task(work(busy, f"{kind}_{half}", part=0.5)) for half in range(2)))


async def task_group(kind):
    with handler(kind) as busy:
        async with asyncio.TaskGroup() as group:
            for half in range(2):
                group.create_task(work(busy, f"{kind}_{half}", part=0.5))


async def eager(kind):
    """A task that starts inside the one that makes it, and comes back without having ended the span it works in."""
    its_kind = f"{kind}_child"
    its_busy, its_span = busy_function(f"busy_{its_kind}"), tracer.start_span(f"GET /{its_kind}")
    expect(its_kind, its_span)

    async def child(length):
        with trace.use_span(its_span):
            its_busy(length)
            await asyncio.sleep(0)
            its_busy(length)

    with handler(kind) as busy:
        for length in steps(kind):
            loop = asyncio.get_running_loop()
            loop.set_task_factory(asyncio.eager_task_factory)
            started = loop.create_task(child(length / 2))
            loop.set_task_factory(None)  # the others' tasks are not to be eager
            busy(length)
            await started
            busy(length)
            await asyncio.sleep(0)
    its_span.end()


async def framed(coroutine):
    await coroutine


async def no_span():
    await work(outside, "no_span")


async def main():
    handlers = [task(f"task_{number}") for number in range(3)]
    handlers += [made(made.__name__) for made in (call_soon, call_later, generator, inherited)]
    if sys.version_info >= (3, 11):
        handlers.append(task_group("task_group"))
    # uvloop hands every task factory an argument that 3.13.0 does not know yet: the two fail by themselves.
    if hasattr(asyncio, "eager_task_factory") and not (MODE.startswith("uvloop") and sys.version_info[:2] == (3, 13)):
        handlers.append(eager("eager"))
    if MODE == "deep":  # as many frames as a web framework and its middleware have above a handler
        for _ in range(50):
            handlers = [framed(coroutine) for coroutine in handlers]
    await asyncio.gather(no_span(), *handlers)


match MODE:
    case "asyncio" | "deep":
        asyncio.run(main())
    case "debug":
        asyncio.run(main(), debug=True)
    case "uvloop.run":
        import uvloop

        uvloop.run(main())
    case "uvloop.install":
        import uvloop

        uvloop.install()
        asyncio.run(main())
tell()
