"""Answers small requests, one after the other, until its standard input ends; tells how long they took and what it cost."""

import json
import os
import statistics
import sys
import threading
import time

from busy import busy_function, identity, tracer

busy = busy_function("busy_steady")
ended = threading.Event()


def wait_for_the_end():
    sys.stdin.read()
    ended.set()


def resident():
    with open("/proc/self/statm") as file:  # noqa: PTH123 - as short as it gets
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


threading.Thread(target=wait_for_the_end, daemon=True).start()
print("ready", flush=True)
took, memory = [], None
started = time.monotonic()
while not ended.is_set():
    begun = time.perf_counter()
    with tracer.start_as_current_span("steady") as span:
        busy(0.003)
    took.append(time.perf_counter() - begun)
    if memory is None and time.monotonic() - started > 3:
        memory = resident()
    time.sleep(0.02)
grown = resident() - memory if memory else 0
print(json.dumps({"median": statistics.median(took), "grown": grown, "threads": threading.active_count(), **identity(span)}))
