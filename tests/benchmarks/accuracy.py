"""How many samples carry the right span: `pyroscope-otel` and this project, by concurrency model and length of a step.

Each figure is a process of its own: eight handlers, each in a root span, take turns in steps of one length for some seconds
of CPU time. Every handler's work is a function with a name of its own, so each sample says by its stack which span it belongs
to and by its labels which one it was given. All samples that have such a function on their stack count; one with no span, or
with a label twice, is wrong. With ours, two models have one label more: of the baggage, or a tag that the application adds to
its thread for each step. The intervals are Wilson's, at 95 %.

Run as ``python tests/benchmarks/accuracy.py``; prints Markdown, and with ``--json FILE`` keeps the figures for the picture.
"""

from __future__ import annotations

import argparse
import asyncio
import contextvars
import functools
import json
import math
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from otel_profiling_distro.receiver import Receiver

CONFIGURATIONS = ("pyroscope-otel", "otel-profiling-distro")
STEPS = (0.05, 0.2, 0.5, 2.0, 10.0)
"""Milliseconds of CPU time between two switches."""
HANDLERS = 8
TENANT = "tenant"


def busy_function(name: str) -> Callable[[float], None]:
    """Return a function called `name` that uses the calling thread's CPU for some seconds."""
    namespace: dict[str, Any] = {"thread_time": time.thread_time}
    source = f"def {name}(seconds):\n    end = thread_time() + seconds\n    while thread_time() < end:\n        pass\n"
    exec(source, namespace)  # the only way to a name on the stack
    return namespace[name]


WORK = [busy_function(f"busy_{number}") for number in range(HANDLERS)]


class Handler:
    """One handler: a root span of its own, and work in steps until its share of the time is used."""

    def __init__(self, tracer: Any, number: int, step: float, seconds: float) -> None:
        self.number, self.step, self.count = number, step, max(1, int(seconds / HANDLERS / step))
        self.work = WORK[number]
        self.span = functools.partial(tracer.start_as_current_span, f"handler {number}")

    async def run_async(self, pause: Callable[[], Any]) -> None:
        with self.span():
            for _ in range(self.count):
                self.work(self.step)
                await pause()

    async def run_tagged(self, pause: Callable[[], Any]) -> None:
        import pyroscope

        with self.span():
            for _ in range(self.count):
                with pyroscope.tag_wrapper({TENANT: f"tenant {self.number}"}):
                    self.work(self.step)
                await pause()

    async def run_with_baggage(self, pause: Callable[[], Any]) -> None:
        from opentelemetry import baggage, context

        context.attach(baggage.set_baggage(TENANT, f"tenant {self.number}"))
        await self.run_async(pause)

    def run_once(self) -> None:
        with self.span():
            self.work(self.step)

    def run(self, pause: Callable[[], Any]) -> None:
        with self.span():
            for _ in range(self.count):
                self.work(self.step)
                pause()

    async def run_on_workers(self, run: Callable[..., Any]) -> None:
        with self.span():
            for _ in range(self.count):
                await run(self.work, self.step)


def threads(handlers: list[Handler]) -> None:
    with ThreadPoolExecutor(HANDLERS) as pool:
        list(pool.map(lambda handler: handler.run(lambda: time.sleep(0)), handlers))


async def _tasks(handlers: list[Handler]) -> None:
    await asyncio.gather(*(handler.run_async(lambda: asyncio.sleep(0)) for handler in handlers))


def asyncio_tasks(handlers: list[Handler]) -> None:
    asyncio.run(_tasks(handlers))


def uvloop_tasks(handlers: list[Handler]) -> None:
    import uvloop

    uvloop.run(_tasks(handlers))


def asyncio_tags(handlers: list[Handler]) -> None:
    async def main() -> None:
        await asyncio.gather(*(handler.run_tagged(lambda: asyncio.sleep(0)) for handler in handlers))

    asyncio.run(main())


def asyncio_baggage(handlers: list[Handler]) -> None:
    async def main() -> None:
        await asyncio.gather(*(handler.run_with_baggage(lambda: asyncio.sleep(0)) for handler in handlers))

    asyncio.run(main())


class Steps(asyncio.Protocol):
    """Takes a step with whatever comes in, and has the next come in."""

    def __init__(self, handler: Handler, peer: socket.socket, done: asyncio.Future[None]) -> None:
        self.handler, self.peer, self.done = handler, peer, done
        self.left = handler.count

    def data_received(self, _data: bytes) -> None:
        self.handler.work(self.handler.step)
        self.left -= 1
        if self.left:
            self.peer.send(b"x")
        else:
            self.done.set_result(None)


def uvloop_protocols(handlers: list[Handler]) -> None:
    """Protocols are called from native code, in the context that their transport was made in."""
    import uvloop

    async def serve(handler: Handler) -> None:
        loop = asyncio.get_running_loop()
        ours, peer = socket.socketpair()
        done: asyncio.Future[None] = loop.create_future()
        with handler.span(), peer:
            transport, _ = await loop.create_connection(lambda: Steps(handler, peer, done), sock=ours)
            peer.send(b"x")
            await done
            transport.close()

    async def main() -> None:
        await asyncio.gather(*map(serve, handlers))

    uvloop.run(main())


def short_threads(handlers: list[Handler]) -> None:
    """A thread for each step, and a span as long as the thread."""
    for _ in range(handlers[0].count):
        for handler in handlers:
            thread = threading.Thread(target=handler.run_once)
            thread.start()
            thread.join()


def trio_tasks(handlers: list[Handler]) -> None:
    import trio

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            for handler in handlers:
                nursery.start_soon(handler.run_async, trio.lowlevel.checkpoint)

    trio.run(main)


def anyio_workers(handlers: list[Handler]) -> None:
    import anyio
    import anyio.to_thread

    async def main() -> None:
        async with anyio.create_task_group() as group:
            for handler in handlers:
                group.start_soon(handler.run_on_workers, anyio.to_thread.run_sync)

    anyio.run(main)


def asyncio_workers(handlers: list[Handler]) -> None:
    async def main() -> None:
        await asyncio.gather(*(handler.run_on_workers(asyncio.to_thread) for handler in handlers))

    asyncio.run(main())


def gevent_greenlets(handlers: list[Handler]) -> None:
    import gevent

    gevent.joinall([gevent.spawn(handler.run, lambda: gevent.sleep(0)) for handler in handlers])


def context_runs(handlers: list[Handler]) -> None:
    """Contexts that are entered by hand, as a library nobody knows might."""
    contexts = [contextvars.copy_context() for _ in handlers]
    spans = [handler.span() for handler in handlers]
    for context, span in zip(contexts, spans, strict=True):
        context.run(span.__enter__)
    for _ in range(handlers[0].count):
        for context, handler in zip(contexts, handlers, strict=True):
            context.run(handler.work, handler.step)
    for context, span in zip(contexts, spans, strict=True):
        context.run(span.__exit__, None, None, None)


MODELS: dict[str, Callable[[list[Handler]], None]] = {
    "threads": threads,
    "asyncio": asyncio_tasks,
    "uvloop": uvloop_tasks,
    "trio": trio_tasks,
    "anyio.to_thread": anyio_workers,
    "asyncio.to_thread": asyncio_workers,
    "gevent": gevent_greenlets,
    "Context.run": context_runs,
    "uvloop data_received": uvloop_protocols,
    "asyncio, baggage": asyncio_baggage,
    "asyncio, tag_wrapper": asyncio_tags,
    "short threads": short_threads,
}
WITH_TENANT = (asyncio_baggage, asyncio_tags)


def worker(configuration: str, model: str, step: float, seconds: float, server: str) -> None:
    """Run one model under one configuration, sending profiles to `server`."""
    if model == "gevent":
        from gevent import monkey

        monkey.patch_all()
    from opentelemetry import trace
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider

    provider = TracerProvider(resource=Resource({"service.name": "accuracy"}))
    trace.set_tracer_provider(provider)
    if configuration == "pyroscope-otel":
        import pyroscope
        from pyroscope.otel import PyroscopeSpanProcessor

        pyroscope.configure(application_name="accuracy", server_address=server)
        provider.add_span_processor(PyroscopeSpanProcessor())
    else:
        from otel_profiling_configurator import activate

        os.environ.update(OTEL_PROFILING_SERVER_ADDRESS=server, OTEL_PROFILING_BAGGAGE_KEYS=TENANT)
        activate()
    tracer = trace.get_tracer("accuracy")
    handlers = [Handler(tracer, number, step, seconds) for number in range(HANDLERS)]
    MODELS[model](handlers)
    if configuration == "pyroscope-otel":
        pyroscope.shutdown()


def measure(configuration: str, model: str, step_ms: float, seconds: float) -> tuple[int, int]:
    """Return how many samples are right, and how many there are."""
    with Receiver() as receiver:
        command = [sys.executable, __file__, "--worker", configuration, model, str(step_ms / 1000), str(seconds), receiver.url]
        subprocess.run(command, check=True, timeout=120 + 10 * seconds)
        with_tenant = configuration == CONFIGURATIONS[1] and MODELS[model] in WITH_TENANT
        right = total = 0
        for sample in receiver.samples("accuracy"):
            names = {frame.function for frame in sample.stack}
            numbers = [number for number in range(HANDLERS) if f"busy_{number}" in names]
            if numbers:
                total += sample.count
                labels = [(key, value) for key, value in sample.labels if key == "span_name" or (with_tenant and key == TENANT)]
                expected = [("span_name", f"handler {numbers[0]}")]
                if with_tenant:
                    expected.append((TENANT, f"tenant {numbers[0]}"))
                right += sample.count * (sorted(labels) == expected)
        return right, total


def interval(right: int, total: int) -> tuple[float, float]:
    """Return the Wilson score interval of a share, at 95 %."""
    z = 1.96
    share, middle = right / total, total + z * z
    spread = z * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total)) * total
    return max(0.0, (right + z * z / 2 - spread) / middle), min(1.0, (right + z * z / 2 + spread) / middle)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], epilog="All of it takes 12 minutes.")
    parser.add_argument("--seconds", type=float, default=5.0, help="CPU time of each figure, about 100 samples a second")
    parser.add_argument("--models", nargs="*", default=list(MODELS), choices=MODELS, metavar="MODEL")
    parser.add_argument("--steps", nargs="*", type=float, default=list(STEPS), metavar="MS", help="milliseconds")
    parser.add_argument("--configurations", nargs="*", default=list(CONFIGURATIONS), choices=CONFIGURATIONS)
    parser.add_argument("--json", help="where to keep the figures")
    parser.add_argument("--worker", nargs=5, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        configuration, model, step, seconds, server = arguments.worker
        worker(configuration, model, float(step), float(seconds), server)
        return
    figures = []
    print(f"Python {sys.version.split()[0]}, share of samples with the right span, with its 95 % interval\n", flush=True)
    print("| model | | " + " | ".join(f"{step:g} ms" for step in arguments.steps) + " |")
    print("|---|---|" + "---|" * len(arguments.steps), flush=True)
    for model in arguments.models:
        for configuration in arguments.configurations:
            cells = []
            for step in arguments.steps:
                right, total = measure(configuration, model, step, arguments.seconds)
                low, high = interval(right, total)
                figure = {"configuration": configuration, "model": model, "step_ms": step, "right": right, "total": total}
                figures.append({**figure, "low": low, "high": high})
                cells.append(f"{right / total:.1%} ({low:.0%} to {high:.0%})")
            print(f"| {model} | {configuration} | " + " | ".join(cells) + " |", flush=True)
    print()
    if arguments.json:
        Path(arguments.json).write_text(json.dumps({"python": sys.version.split()[0], "figures": figures}, indent=1))


if __name__ == "__main__":
    main()
