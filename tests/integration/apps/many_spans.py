"""Very many spans over threads, tasks and greenlets: some end on another thread, some are renamed, some threads die inside one.

What is written to the agent is written down here as well: the agent itself has no way to say which labels it holds.
"""

import asyncio
import gc
import json
import os
import queue
import sys
import threading
from collections import Counter
from pathlib import Path

import pyroscope

COUNT = int(sys.argv[1])
THREADS = 64
held = Counter()
written = [0]


class Recorder:
    """The agent's native module, with a list of the labels that it holds."""

    def __init__(self, native):
        self._native = native

    def __getattr__(self, name):
        return getattr(self._native, name)

    def add_thread_tag(self, key, value):
        held[threading.get_ident(), key, value] += 1
        written[0] += 1
        return self._native.add_thread_tag(key, value)

    def remove_thread_tag(self, key, value):
        label = threading.get_ident(), key, value
        held[label] -= 1
        if not held[label]:
            del held[label]
        return self._native.remove_thread_tag(key, value)


pyroscope.lib = Recorder(pyroscope.lib)

from opentelemetry import context, trace  # noqa: E402 - after the agent's module was replaced
from opentelemetry.instrumentation.auto_instrumentation import initialize  # noqa: E402 - as above

initialize()
tracer = trace.get_tracer("application")
to_end = queue.Queue(1000)


def one_span(number):
    """One of ten kinds, by the number."""
    kind = number % 10
    if kind == 0:  # ended on another thread
        to_end.put(tracer.start_span("handed over"))
        return
    # Of kind 3 another thread ends it, perhaps while it is still current here.
    with tracer.start_as_current_span("GET", end_on_exit=kind != 3) as span:
        if kind == 1:
            span.update_name(f"GET /{number % 100}")
        if kind == 2:
            with tracer.start_as_current_span("child"):
                pass
        if kind == 3:
            to_end.put(span)


def end_them():
    while (span := to_end.get()) is not None:
        span.end()


def thread(count):
    for number in range(count):
        one_span(number)
    context.attach(trace.set_span_in_context(tracer.start_span("dies with its thread")))


async def tasks(count, wide=10):
    async def task(count):
        for number in range(count):
            with tracer.start_as_current_span(f"task {number % 3}"):
                await asyncio.sleep(0)
            one_span(number)

    await asyncio.gather(*(task(count // wide // 2) for _ in range(wide)))


def greenlets(count, wide=10):
    import greenlet  # noqa: PLC0415 - imported while spans are current on other threads

    def one(count):
        for number in range(count):
            with tracer.start_as_current_span(f"greenlet {number % 3}"):
                greenlet.getcurrent().parent.switch()
            one_span(number)

    alive = [greenlet.greenlet(one) for _ in range(wide)]
    while alive:
        for one_of_them in alive:
            one_of_them.switch(count // wide // 2)
        alive = [one_of_them for one_of_them in alive if not one_of_them.dead]


def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def round_of(count):
    """Let 64 threads come, make spans and go."""
    each = count // THREADS
    kinds = [thread] * (THREADS - 8) + [lambda count: asyncio.run(tasks(count))] * 4 + [greenlets] * 4
    threads = [threading.Thread(target=kind, args=(each,)) for kind in kinds]
    for one in threads:
        one.start()
    for one in threads:
        one.join()


ender = threading.Thread(target=end_them)
ender.start()
memory = []
for _ in range(10):
    round_of(COUNT // 10)
    gc.collect()
    memory.append(resident())
to_end.put(None)
ender.join()
print(json.dumps({"held": sorted(map(str, held)), "written": written[0], "memory": memory}))
