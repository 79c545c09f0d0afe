"""What a span and a switch cost: the plain SDK, `pyroscope-otel` and this project, side by side in one run.

The same twice more: with labels kept by thread, as they are where samples can't have aliases, and without the native module.

Each configuration is a process of its own, and the processes take turns at every case, round by round: whatever else the
machine does falls on all of them. They are started anew several times, since where things lie in memory alone makes a process
several percent faster or slower. The same agent samples in all of them, so the differences are those of the labels.
A figure is the median over all turns of the difference to the plain SDK in the same round, in CPU time of the threads that
the case runs on. Its 95 % interval is a bootstrap over the starts.
A shared machine's processors are up to twice as slow in one moment as in the next. So an empty loop is timed before and after
each turn, and the turn is counted as if that had taken the least time that it took in the whole run.

Run as ``python tests/benchmarks/cost.py``; prints Markdown, and with ``--json FILE`` keeps the figures for the picture.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import contextvars
import functools
import importlib.util
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from intervals import Estimate, median_of

CONFIGURATIONS = ("plain SDK", "pyroscope-otel", "otel-profiling-distro", "by thread", "in Python")
"""The last two are ours with ``OTEL_PROFILING_ALIASES=false``, and where no compiler was at hand."""
BATCH_SECONDS = 0.03
APPLICATION = "bench"
SERVER = "http://127.0.0.1:9"
"""Nothing listens there, and an hour between uploads is longer than any run."""

Turn = tuple[float, float]
"""Microseconds of an operation, and seconds that an empty loop took at that time."""

Rounds = list[dict[str, Turn]]
"""What each configuration took at a case, round by round."""


def set_up(configuration: str) -> None:
    """Set one configuration up, with an agent as this project starts it."""
    from opentelemetry import trace
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

    class Discard(SpanExporter):
        def export(self, spans: object) -> SpanExportResult:
            return SpanExportResult.SUCCESS

    # Nothing in the resource but the name: no static labels that only one of the agents would have.
    provider = TracerProvider(resource=Resource({"service.name": APPLICATION}))
    if configuration == "pyroscope-otel":
        from pyroscope.otel import PyroscopeSpanProcessor

        provider.add_span_processor(PyroscopeSpanProcessor())
    provider.add_span_processor(BatchSpanProcessor(Discard()))
    trace.set_tracer_provider(provider)
    if configuration in CONFIGURATIONS[2:]:
        from otel_profiling_configurator import activate
        from otel_profiling_configurator.context import following

        assert not following.why_missing, "install it where there is a compiler"
        if configuration == "in Python":
            following.why_missing = "left out here"
        # It has to start the agent itself, or it would not know whose samples to keep the labels for.
        os.environ.update(OTEL_PROFILING_SERVER_ADDRESS=SERVER, OTEL_PROFILING_UPLOAD_INTERVAL="1h")
        os.environ["OTEL_PROFILING_ALIASES"] = str(configuration == "otel-profiling-distro")
        activate()
        assert type(trace.get_tracer_provider()).__name__ == "ProfilingTracerProvider"
    else:
        import pyroscope

        assert pyroscope.configure(application_name=APPLICATION, server_address=SERVER, upload_interval=3600)


@contextlib.contextmanager
def one_processor() -> Iterator[None]:
    """Keep the calling thread, and those that it starts, on one processor; the agent's threads stay where they are.

    Where the scheduler places two threads that wait for each other makes a hop up to three times as dear.
    """
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    processors = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(processors)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, processors)


def cases(tracer: Any) -> dict[str, Callable[[int], float]]:
    """Return what is measured: functions of a number of operations that return how much CPU time those took, in seconds."""
    from opentelemetry import context

    def root_span(count: int) -> float:
        start = time.thread_time()
        for _ in range(count):
            with tracer.start_as_current_span("root"):
                pass
        return time.thread_time() - start

    def child_span(count: int) -> float:
        with tracer.start_as_current_span("root"):
            return root_span(count)

    def attach_detach(count: int) -> float:
        with tracer.start_as_current_span("root"):
            other = context.set_value("key", "value")
            start = time.thread_time()
            for _ in range(count):
                context.detach(context.attach(other))
            return time.thread_time() - start

    def step_inside_one_span(count: int) -> float:
        async def steps() -> float:
            with tracer.start_as_current_span("root"):
                start = time.thread_time()
                for _ in range(count):
                    await asyncio.sleep(0)
                return time.thread_time() - start

        return asyncio.run(steps())

    def context_run(count: int) -> float:
        def nothing() -> None:
            pass

        contexts = []
        for number in range(2):
            with tracer.start_as_current_span(f"root {number}"):
                contexts.append(contextvars.copy_context())
        first, second = contexts
        start = time.thread_time()
        for _ in range(count // 2):
            first.run(nothing)
            second.run(nothing)
        return time.thread_time() - start

    def worker_thread_hop(count: int) -> float:
        def nothing() -> None:
            pass

        def used() -> float:
            """Return the CPU time of both threads."""
            return time.thread_time() + pool.submit(time.thread_time).result()

        with one_processor(), ThreadPoolExecutor(1) as pool, tracer.start_as_current_span("root"):
            start = used()
            for _ in range(count):
                pool.submit(contextvars.copy_context().run, nothing).result()
            return used() - start

    every: dict[str, Callable[[int], float]] = {
        "root span": root_span,
        "child span": child_span,
        "attach and detach": attach_detach,
        "asyncio step inside one span": step_inside_one_span,
        "asyncio step to a span of the same route": alternating(tracer, "root", "root"),
        "asyncio step to a span of another route": alternating(tracer, "root 0", "root 1"),
        "worker-thread hop": worker_thread_hop,
        "Context.run with another span": context_run,
    }
    return {**every, **cases_of_libraries(tracer)}


def alternating(tracer: Any, *names: str, run: Callable[[Any], float] = asyncio.run) -> Callable[[int], float]:
    """Return the case of a step of a loop from one task to another, each in a span with one of these names."""

    async def steps(name: str, count: int) -> None:
        with tracer.start_as_current_span(name):
            for _ in range(count):
                await asyncio.sleep(0)

    async def all_of_them(count: int) -> float:
        start = time.thread_time()
        await asyncio.gather(*(steps(name, count // len(names)) for name in names))
        return time.thread_time() - start

    return lambda count: run(all_of_them(count))


def cases_of_libraries(tracer: Any) -> dict[str, Callable[[int], float]]:
    """Return the cases of those libraries that are here."""

    def uvloop_run(main: Any) -> float:
        import uvloop

        return float(uvloop.run(main))

    def trio_step(count: int) -> float:
        import trio

        async def steps(name: str) -> None:
            with tracer.start_as_current_span(name):
                for _ in range(count // 2):
                    await trio.lowlevel.checkpoint()

        async def both() -> float:
            start = time.thread_time()
            async with trio.open_nursery() as nursery:
                for number in range(2):
                    nursery.start_soon(steps, f"root {number}")
            return time.thread_time() - start

        return float(trio.run(both))

    def greenlet_switch(count: int) -> float:
        from greenlet import greenlet

        def switches(number: int) -> None:
            with tracer.start_as_current_span(f"root {number}"):
                for _ in range(count // 2):
                    greenlets[1 - number].switch()

        greenlets = [greenlet(functools.partial(switches, number)) for number in range(2)]
        start = time.thread_time()
        greenlets[0].switch()  # returns when that one has ended, which leaves the other in its last switch
        greenlets[1].switch()
        return time.thread_time() - start

    every: dict[str, tuple[str, Callable[[int], float]]] = {
        "uvloop step to another span": ("uvloop", alternating(tracer, "root 0", "root 1", run=uvloop_run)),
        "trio step to another span": ("trio", trio_step),
        "greenlet switch to another span": ("greenlet", greenlet_switch),
    }
    return {name: case for name, (library, case) in every.items() if importlib.util.find_spec(library) is not None}


def empty_loop() -> float:
    """Return how long a bit of work takes right now, in seconds of CPU time."""
    start = time.thread_time()
    for _ in range(20_000):
        pass
    return time.thread_time() - start


def worker(configuration: str) -> None:
    """Set one configuration up, then time the cases that standard input names."""
    from opentelemetry import trace

    set_up(configuration)
    every = cases(trace.get_tracer("bench"))
    counts = {}
    for name, case in every.items():
        case(1000)
        counts[name] = max(100, int(1000 * BATCH_SECONDS / case(1000)))
    print(json.dumps(list(every)), flush=True)
    for line in sys.stdin:
        name = line.strip()
        before = empty_loop()
        microseconds = every[name](counts[name]) / counts[name] * 1e6
        print(microseconds, (before + empty_loop()) / 2, flush=True)


def generation(rounds: int, wanted: list[str] | None) -> dict[str, Rounds]:
    """Let fresh processes take turns for some rounds; return what they took, by case: all, or those that are wanted."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "PYROSCOPE_"))}
    processes = {
        name: subprocess.Popen(
            [sys.executable, __file__, "--worker", name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=inherited,
        )
        for name in CONFIGURATIONS
    }
    try:
        *_, names = (json.loads(process.stdout.readline()) for process in processes.values())
        turns: dict[str, Rounds] = {case: [] for case in names if wanted is None or case in wanted}
        for _ in range(rounds):
            for case, rounds_of_case in turns.items():
                rounds_of_case.append({})
                for name, process in processes.items():
                    process.stdin.write(case + "\n")
                    process.stdin.flush()
                    microseconds, loop = map(float, process.stdout.readline().split())
                    rounds_of_case[-1][name] = microseconds, loop
        return turns
    finally:
        for process in processes.values():
            process.kill()
            process.wait()


def row(case: str, plain: Estimate, other: Estimate, *ours: Estimate) -> str:
    """Return a row of the table."""
    added = (f"{estimate.value:+.2f} ({estimate.low:+.2f} to {estimate.high:+.2f})" for estimate in (other, *ours))
    shares = " / ".join(f"{estimate.value / other.value:.2f}" for estimate in ours) if other.low > 0.1 else ""
    return f"| {case} | {plain.value:.2f} | {' | '.join(added)} | {ours[0].value / plain.value:+.1%} | {shares} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--generations", type=int, default=16, help="how often the processes are started anew")
    parser.add_argument("--rounds", type=int, default=8, help="turns that each configuration takes at each case")
    parser.add_argument("--cases", nargs="+", metavar="CASE", help="only these, by their names in the table")
    parser.add_argument("--json", help="where to keep the figures")
    parser.add_argument("--worker", choices=CONFIGURATIONS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        worker(arguments.worker)
        return
    generations = [generation(arguments.rounds, arguments.cases) for _ in range(arguments.generations)]
    if not generations[0]:
        parser.error("no case has such a name")
    fastest = min(loop for turns in generations for case in turns.values() for each in case for _, loop in each.values())

    def added(case: str, name: str) -> list[list[float]]:
        """Return what a configuration adds to the plain SDK's time, or that itself, for each round of each generation."""

        def at_full_speed(turn: Turn) -> float:
            microseconds, loop = turn
            return microseconds * fastest / loop

        plain = CONFIGURATIONS[0]
        return [
            [at_full_speed(each[name]) - (at_full_speed(each[plain]) if name != plain else 0) for each in turns[case]]
            for turns in generations
        ]

    plain, other, ours, by_thread, in_python = CONFIGURATIONS
    turns = arguments.generations * arguments.rounds
    print(f"Python {sys.version.split()[0]}, {turns} turns each, microseconds of CPU time per operation, with 95 % intervals\n")
    print(f"| case | {plain} | {other} adds | {ours} adds | {by_thread} | {in_python} | of plain | of what {other} adds |")
    print("|---|---|---|---|---|---|---|---|")
    figures = []
    for case in generations[0]:
        estimates = {name: median_of(added(case, name)) for name in CONFIGURATIONS}
        figures.append({"case": case, **{name: estimate._asdict() for name, estimate in estimates.items()}})
        print(row(case, *estimates.values()))
    print()
    if arguments.json:
        kept = {"python": sys.version.split()[0], "turns": turns, "figures": figures}
        Path(arguments.json).write_text(json.dumps(kept, indent=1))


if __name__ == "__main__":
    main()
