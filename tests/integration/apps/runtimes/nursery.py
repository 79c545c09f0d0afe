"""Structured concurrency, on trio or on anyio: tasks of one group, groups inside of them, and worker threads."""

import functools
import threading

from turns import MODE, handler, outside, steps, tell

if MODE == "trio":
    import trio as library

    open_group, run = library.open_nursery, library.run
else:
    import anyio as library

    open_group = library.create_task_group
    backend, _, uvloop = MODE.removeprefix("anyio-").partition("+")
    run = functools.partial(library.run, backend=backend, backend_options={"use_uvloop": True} if uvloop else {})

threads = set()


def noting_its_thread(busy, length):
    threads.add(threading.get_ident())
    busy(length)


async def work(busy, kind, **part):
    for length in steps(kind, **part):
        busy(length)
        await library.sleep(0)


async def task(kind):
    with handler(kind) as busy:
        await work(busy, kind)


async def inherited(kind):
    """Two tasks that have no span but the one that was current where they were started."""
    with handler(kind) as busy:
        async with open_group() as group:
            for half in range(2):
                group.start_soon(functools.partial(work, busy, f"{kind}_{half}", part=0.5))


async def generator(kind):
    async def generate():
        for length in steps(kind):
            busy(length)
            await library.sleep(0)
            yield

    with handler(kind) as busy:
        async for _ in generate():
            await library.sleep(0)


async def thread(kind):
    with handler(kind) as busy:
        for length in steps(kind):
            await library.to_thread.run_sync(noting_its_thread, busy, length)


async def no_span():
    await work(outside, "no_span")


async def no_span_in_threads():
    for length in steps("no_span_in_threads"):
        await library.to_thread.run_sync(noting_its_thread, outside, length)


async def main():
    async with open_group() as group:
        for number in range(3):
            group.start_soon(task, f"task_{number}")
            group.start_soon(thread, f"thread_{number}")
        group.start_soon(inherited, "inherited")
        group.start_soon(generator, "generator")
        group.start_soon(no_span)
        group.start_soon(no_span_in_threads)


run(main)
tell(threads=len(threads))
