"""One pool of worker threads after the other, reused by jobs of several spans and by jobs of none."""

import asyncio
import concurrent.futures
import contextvars
import itertools
import threading

from asgiref.sync import async_to_sync, sync_to_async
from turns import MODE, expected, handler, outside, steps, tell

pool = concurrent.futures.ThreadPoolExecutor(2)
threads = set()


def noting_its_thread(busy, length):
    threads.add(threading.get_ident())
    busy(length)


def in_executor(*call):
    return asyncio.get_running_loop().run_in_executor(pool, *call)


JOBS = {
    "to_thread": asyncio.to_thread,
    "copied_context": lambda *call: in_executor(contextvars.copy_context().run, *call),
    "bare_executor": in_executor,
    "sync_to_async": lambda function, *rest: sync_to_async(function)(*rest),
    "sync_to_async_on_any_thread": lambda function, *rest: sync_to_async(function, thread_sensitive=False)(*rest),
    "submitted": lambda *call: asyncio.wrap_future(pool.submit(*call)),
}
"""How a job is handed to a worker thread, by the name of the handler that does so."""

NO_CONTEXT = ("bare_executor", "submitted") if MODE == "not instrumented" else ()
"""What reaches the worker without its context, so that there is no span to be seen."""


async def handle(kind):
    with handler(kind) as busy:
        for length in steps(kind):
            await JOBS[kind](noting_its_thread, busy, length)


async def handle_without_span():
    for length, job in zip(steps("no_span"), itertools.cycle(JOBS.values()), strict=False):
        await job(noting_its_thread, outside, length)


def handle_in_thread(kind):
    """What a synchronous handler does that calls asynchronous code, which calls synchronous code in turn."""

    @async_to_sync
    async def inner(length):
        busy(length / 2)
        await asyncio.sleep(0)
        await sync_to_async(busy)(length / 2)

    with handler(kind) as busy:
        for length in steps(kind):
            inner(length)


async def main():
    await asyncio.gather(handle_without_span(), *map(handle, JOBS))


synchronous = [threading.Thread(target=handle_in_thread, args=(f"async_to_sync_{number}",)) for number in range(2)]
for thread in synchronous:
    thread.start()
asyncio.run(main())
for thread in synchronous:
    thread.join()
for kind in NO_CONTEXT:
    expected[kind] = dict.fromkeys(expected[kind])
tell(threads=len(threads))
