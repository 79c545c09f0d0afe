"""What a profiler's own threads cost where most of an application's threads do nothing."""

from __future__ import annotations

import threading
import time

import cpu_time_profiler as profiler

WARM_UP = 1.0
"""Seconds after the start of the threads."""


def start_idle(count: int) -> threading.Event:
    """Start threads that wait until the event that is returned is set."""
    over = threading.Event()
    for _ in range(count):
        threading.Thread(target=over.wait).start()
    return over


def share_of_core(configuration: str, target: str, idle: int, seconds: float) -> float:
    """Return the CPU time a second of all threads but the application's: a busy one, and so many idle ones."""
    older = {threading.get_ident()}
    stop = profiler.start(configuration, target)
    before = threading.enumerate()
    over = start_idle(idle)
    started = [thread.ident for thread in threading.enumerate() if thread not in before]
    clocks = [time.pthread_getcpuclockid(ident) for ident in [*older, *started] if ident is not None]

    def others() -> float:
        return time.process_time() - sum(map(time.clock_gettime, clocks))

    _work(WARM_UP)
    used, begin = others(), time.monotonic()
    _work(seconds)
    used, elapsed = others() - used, time.monotonic() - begin
    over.set()
    stop()
    return used / elapsed


def _work(seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        sum(range(1000))
