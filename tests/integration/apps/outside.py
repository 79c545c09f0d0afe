"""Spans that take turns on threads in every way there is, for a reader outside the process: argument 1 names the way.

The file of argument 2 is shared with the reader. For each thread it has the thread's id and the id of the span whose busy
function is on top of the thread's stack, or 0. A span's name has its ids, so that a record which is torn or freed is seen.
"""

import asyncio
import contextlib
import itertools
import mmap
import os
import sys
import threading
import time
from pathlib import Path

from opentelemetry import trace
from opentelemetry.trace import SpanKind

CELLS = 64
END = CELLS - 1
"""The cell by which the reader says that it has seen enough, or how many threads it waits for."""


class Cells:
    """Two numbers for each thread."""

    def open(self, path):
        with Path(path).open("r+b") as file:
            self.words = memoryview(mmap.mmap(file.fileno(), CELLS * 16)).cast("Q")

    @property
    def is_over(self):
        return self.words[2 * END] != 0


cells = Cells()
free = list(range(END))
steps = itertools.count()


@contextlib.contextmanager
def on_this_thread():
    """Let the reader know of the calling thread."""
    number = free.pop()
    cells.words[2 * number + 1] = 0
    cells.words[2 * number] = threading.get_native_id()
    place = 2 * number + 1
    try:
        yield place
    finally:
        cells.words[2 * number] = 0
        free.append(number)


def busy(place, span_id, seconds):
    words = cells.words
    end = time.perf_counter() + seconds
    words[place] = span_id
    while time.perf_counter() < end:
        pass
    words[place] = 0


@contextlib.contextmanager
def named_span(tracer, **arguments):
    """Make a span current whose name has its ids; gives its id."""
    with tracer.start_as_current_span("not yet named", **arguments) as span:
        ids = span.get_span_context()
        span.update_name(f"{ids.trace_id:032x} {ids.span_id:016x}")
        yield ids.span_id


def seconds_of_step():
    return 0.0001 + next(steps) % 7 * 0.0002


async def task(tracer, place, arguments):
    while not cells.is_over:
        with named_span(tracer, **arguments) as span_id:
            for _ in range(5):
                busy(place, span_id, seconds_of_step())
                await asyncio.sleep(0)


async def tasks(tracer):
    with on_this_thread() as place:
        await asyncio.gather(*(task(tracer, place, {}) for _ in range(8)))


def on_asyncio(tracer):
    asyncio.run(tasks(tracer))


def on_threads(tracer):
    def work():
        with on_this_thread() as place:
            while not cells.is_over:
                with named_span(tracer) as span_id:
                    for _ in range(5):
                        busy(place, span_id, seconds_of_step())
                        time.sleep(0)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def on_short_threads(tracer):
    """Each span has a thread of its own, whose memory, number and record the next ones get."""

    def work():
        with on_this_thread() as place, named_span(tracer) as span_id:
            busy(place, span_id, seconds_of_step())

    def keep_working():
        while not cells.is_over:
            thread = threading.Thread(target=work)
            thread.start()
            thread.join()

    starters = [threading.Thread(target=keep_working) for _ in range(4)]
    for thread in starters:
        thread.start()
    for thread in starters:
        thread.join()


def on_greenlets(tracer):
    from greenlet import getcurrent, greenlet  # noqa: PLC0415 - of this way alone

    def work(place):
        while not cells.is_over:
            with named_span(tracer) as span_id:
                for _ in range(5):
                    busy(place, span_id, seconds_of_step())
                    getcurrent().parent.switch()

    with on_this_thread() as place:
        greenlets = [greenlet(work) for _ in range(8)]
        while any(not one.dead for one in greenlets):
            for one in greenlets:
                if not one.dead:
                    one.switch(place)


def on_gevent(tracer):
    """The same, with a hub that decides who is next."""
    import gevent  # noqa: PLC0415 - of this way alone

    def work(place):
        while not cells.is_over:
            with named_span(tracer) as span_id:
                for _ in range(5):
                    busy(place, span_id, seconds_of_step())
                    gevent.sleep(0)

    with on_this_thread() as place:
        gevent.joinall([gevent.spawn(work, place) for _ in range(8)])


def on_trio(tracer):
    import trio  # noqa: PLC0415 - of this way alone

    async def work(place):
        while not cells.is_over:
            with named_span(tracer) as span_id:
                for _ in range(5):
                    busy(place, span_id, seconds_of_step())
                    await trio.sleep(0)

    async def main():
        with on_this_thread() as place:
            async with trio.open_nursery() as nursery:
                for _ in range(8):
                    nursery.start_soon(work, place)

    trio.run(main)


def on_uvloop(tracer):
    """A server and its clients, on one loop."""
    import uvloop  # noqa: PLC0415 - of this way alone

    async def serve(reader, writer, place):
        while await reader.readline():
            with named_span(tracer, kind=SpanKind.SERVER) as span_id:
                busy(place, span_id, seconds_of_step())
                await asyncio.sleep(0)
                busy(place, span_id, seconds_of_step())
                writer.write(b"done\n")
                await writer.drain()
        writer.close()

    async def ask(port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while not cells.is_over:
            writer.write(b"GET\n")
            await reader.readline()
        writer.close()

    async def main():
        with on_this_thread() as place:
            server = await asyncio.start_server(lambda *streams: serve(*streams, place), "127.0.0.1")
            port = server.sockets[0].getsockname()[1]
            await asyncio.gather(*(ask(port) for _ in range(8)))
            server.close()

    uvloop.install()
    asyncio.run(main())


def forked(tracer):
    """A child of a fork, and a span in it; the parent waits."""
    with named_span(tracer):
        child = os.fork()
        if child:
            os.waitpid(child, 0)
            return
    on_asyncio(tracer)
    os._exit(0)


def main():
    cells.open(sys.argv[2])
    print("begun", flush=True)
    {
        "asyncio": on_asyncio,
        "threads": on_threads,
        "short threads": on_short_threads,
        "greenlets": on_greenlets,
        "gevent": on_gevent,
        "trio": on_trio,
        "uvloop": on_uvloop,
        "fork": forked,
    }[sys.argv[1]](trace.get_tracer("application"))


if __name__ == "__main__":
    main()
