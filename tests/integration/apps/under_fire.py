"""Forks again and again while threads, an event loop and greenlets start and end spans; each child works in a span too."""

import asyncio
import json
import os
import signal
import statistics
import sys
import threading
import time

from busy import busy_function, identity, tracer
from opentelemetry.context import Context

try:
    from greenlet import getcurrent, greenlet
except ImportError:  # comes with the packages of the group `servers`
    greenlet = None

FORKS = int(sys.argv[1])
LIGHT_THREADS = 28
stop = threading.Event()
told = {"steady": {}, "children": {}, "codes": []}


def light():
    """Start and end spans all the time, with little work in them."""
    while not stop.is_set():
        with tracer.start_as_current_span("light"), tracer.start_as_current_span("lighter"):
            time.sleep(0.004)


def steady(number):
    """Work in one long span: the parent's profile that forks must not harm."""
    with tracer.start_as_current_span(f"steady {number}") as span:
        told["steady"][f"busy_steady_{number}"] = identity(span)
        busy = busy_function(f"busy_steady_{number}")
        while not stop.is_set():
            busy(0.002)
            time.sleep(0.01)


async def tasks():
    async def task():
        while not stop.is_set():
            with tracer.start_as_current_span("task"):
                await asyncio.sleep(0.005)

    await asyncio.gather(*(task() for _ in range(8)))


def greenlets():
    if greenlet is None:
        return

    def turn():
        while not stop.is_set():
            with tracer.start_as_current_span("greenlet"):
                hub.switch()

    hub = getcurrent()
    others = [greenlet(turn) for _ in range(4)]
    while not stop.is_set():
        for other in others:
            other.switch()
        time.sleep(0.005)
    for other in others:
        other.switch()


threads = [
    *(threading.Thread(target=light) for _ in range(LIGHT_THREADS)),
    *(threading.Thread(target=steady, args=(number,)) for number in range(2)),
    threading.Thread(target=lambda: asyncio.run(tasks())),
    threading.Thread(target=greenlets),
]
for thread in threads:
    thread.start()
time.sleep(0.3)

forks = []
for number in range(FORKS):
    read, write = os.pipe()
    started = time.perf_counter()
    child = os.fork()
    if child == 0:
        signal.alarm(10)  # ends a child that hangs, and its exit code says so
        with tracer.start_as_current_span("child", context=Context()) as span:
            os.write(write, json.dumps(identity(span)).encode())
            busy_function(f"busy_child_{number}")(0.1)
        sys.exit(0)  # as a worker ends: the last profile and the last spans are sent
    forks.append(time.perf_counter() - started)
    os.close(write)
    told["children"][f"busy_child_{number}"] = json.loads(os.read(read, 200) or "{}")
    os.close(read)
    told["codes"].append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))

stop.set()
for thread in threads:
    thread.join()
told["median_ms"] = statistics.median(forks) * 1000
told["longest_ms"] = max(forks) * 1000
print(json.dumps(told))
