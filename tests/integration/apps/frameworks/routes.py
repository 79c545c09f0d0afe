"""What the servers of this folder share: for each route a function of its own, and a request's work in short steps."""

import asyncio
import threading
import time

from busy import busy_function

STEPS = (0.002, 0.011, 0.005, 0.009, 0.003, 0.012, 0.006, 0.008)
"""CPU seconds: a request's work, in pieces between which other requests run."""

BUSY = {route: busy_function(f"busy_{route}") for route in ("alpha", "beta", "gamma", "delta")}
outside = busy_function("busy_outside")


def work(route):
    for length in STEPS:
        BUSY[route](length)
    return f"{route}\n"


async def work_async(route):
    for length in STEPS:
        BUSY[route](length)
        await asyncio.sleep(0)
    return f"{route}\n"


def chunks(route):
    for length in STEPS:
        BUSY[route](length)
        yield f"{route}\n"


async def chunks_async(route):
    for length in STEPS:
        BUSY[route](length)
        await asyncio.sleep(0)
        yield f"{route}\n"


async def work_outside_async():
    """Do what a service does beside its requests, for as long as the event loop runs."""
    while True:
        outside(0.008)
        await asyncio.sleep(0.05)


def work_outside():
    """Start a thread that does what a service does beside its requests, for as long as the process lives."""

    def forever():
        while True:
            outside(0.008)
            time.sleep(0.05)

    threading.Thread(target=forever, daemon=True).start()
