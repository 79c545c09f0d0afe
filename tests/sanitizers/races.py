"""What the agent's threads and the application's do at the same time, for ThreadSanitizer: see the Makefile's `native-tsan`.

The agent samples a process whose threads switch spans, begin and end all the time, with another span's label set at each step,
while the agent is stopped and started, and labels with baggage and tags of the application's own come and go. ThreadSanitizer
ends the process with a report where two threads touch the same memory and nothing orders them.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time

import otel_profiling_configurator
import pyroscope
from opentelemetry import baggage, context, trace
from opentelemetry.sdk.trace import TracerProvider
from otel_profiling_configurator.native import native

SECONDS = float(sys.argv[1]) if len(sys.argv) > 1 else 20.0


def use(seconds: float) -> None:
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


async def steps(tracer: trace.Tracer, end: float) -> None:
    async def request(number: int) -> None:
        while time.monotonic() < end:
            token = context.attach(baggage.set_baggage("tenant", str(number % 3)))
            with tracer.start_as_current_span(f"request {number}"):
                for _ in range(5):
                    use(0.0005)
                    await asyncio.sleep(0)
            context.detach(token)

    await asyncio.gather(*map(request, range(8)))


def short_threads(tracer: trace.Tracer, end: float) -> None:
    def short() -> None:
        with tracer.start_as_current_span("short"), pyroscope.tag_wrapper({"kind": "short"}):
            use(0.002)

    while time.monotonic() < end:
        threads = [threading.Thread(target=short) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


def main() -> None:
    os.environ.update(
        OTEL_PROFILING_SERVER_ADDRESS="http://127.0.0.1:9",
        OTEL_PROFILING_BAGGAGE_KEYS="tenant",
        OTEL_PROFILING_LOG_LEVEL="critical",
    )
    trace.set_tracer_provider(TracerProvider())
    tracer = trace.get_tracer("races")
    for _ in range(4):  # the agent's threads are other ones each time
        undo = otel_profiling_configurator.activate()
        end = time.monotonic() + SECONDS / 4
        others = [threading.Thread(target=short_threads, args=(tracer, end)) for _ in range(2)]
        for thread in others:
            thread.start()
        asyncio.run(steps(tracer, end))
        for thread in others:
            thread.join()
        assert native is not None
        assert native.mode() == "aliases", "the agent's threads ran nothing of ours"
        undo()


if __name__ == "__main__":
    main()
