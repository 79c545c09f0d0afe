"""What a span and a switch cost: the plain SDK, `pyroscope-otel` and this project, side by side in one run.

Each configuration is a process of its own, and the processes take turns at every case, round by round: whatever else the
machine does falls on all of them. They are started anew several times, since where things lie in memory alone makes a process
several percent faster or slower. The same agent samples in all three, so the differences are those of the labels.
A figure is the median over all turns of the difference to the plain SDK in the same round, in the thread's CPU time.

Run as ``python tests/benchmarks/cost.py``; prints Markdown.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

CONFIGURATIONS = ("plain SDK", "pyroscope-otel", "otel-profiling-distro")
BATCH_SECONDS = 0.03


def worker(configuration: str) -> None:
    """Set one configuration up, then time the cases that standard input names."""
    import pyroscope
    from opentelemetry import context, trace
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

    class Discard(SpanExporter):
        def export(self, spans: object) -> SpanExportResult:
            return SpanExportResult.SUCCESS

    provider = TracerProvider()
    # Nothing listens there: an hour between uploads is longer than any run.
    pyroscope.configure(application_name="bench", server_address="http://127.0.0.1:9", upload_interval=3600)
    if configuration == "pyroscope-otel":
        from pyroscope.otel import PyroscopeSpanProcessor

        provider.add_span_processor(PyroscopeSpanProcessor())
    provider.add_span_processor(BatchSpanProcessor(Discard()))
    trace.set_tracer_provider(provider)
    if configuration == "otel-profiling-distro":
        import os

        from otel_profiling_configurator import activate

        os.environ["OTEL_PROFILING_AGENT_ENABLED"] = "false"
        activate()
        assert type(trace.get_tracer_provider()).__name__ == "ProfilingTracerProvider"
    tracer = trace.get_tracer("bench")

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

    def step_alternating_spans(count: int) -> float:
        async def steps(number: int) -> None:
            with tracer.start_as_current_span(f"root {number}"):
                for _ in range(count // 2):
                    await asyncio.sleep(0)

        async def both() -> float:
            start = time.thread_time()
            await asyncio.gather(steps(0), steps(1))
            return time.thread_time() - start

        return asyncio.run(both())

    cases: dict[str, Callable[[int], float]] = {
        "root span": root_span,
        "child span": child_span,
        "attach and detach": attach_detach,
        "asyncio step inside one span": step_inside_one_span,
        "asyncio step, spans alternating": step_alternating_spans,
    }
    counts = {}
    for name, case in cases.items():
        case(1000)
        counts[name] = max(1000, int(1000 * BATCH_SECONDS / case(1000)))
    print(json.dumps(list(cases)), flush=True)
    for line in sys.stdin:
        name = line.strip()
        print(cases[name](counts[name]) / counts[name] * 1e6, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--generations", type=int, default=16, help="how often the processes are started anew")
    parser.add_argument("--rounds", type=int, default=8, help="turns that each configuration takes at each case")
    parser.add_argument("--worker", choices=CONFIGURATIONS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        worker(arguments.worker)
        return
    differences: dict[tuple[str, str], list[float]] = {}
    cases: list[str] = []
    for _ in range(arguments.generations):
        cases = generation(arguments.rounds, differences)
    plain, other, ours = CONFIGURATIONS
    turns = arguments.generations * arguments.rounds
    print(f"Python {sys.version.split()[0]}, {turns} turns each, microseconds of CPU time per operation\n")
    print(f"| case | {plain} | {other} adds | {ours} adds | of plain | of what {other} adds |")
    print("|---|---|---|---|---|---|")
    for case in cases:
        base, *added = (statistics.median(differences[case, name]) for name in CONFIGURATIONS)
        share = f"{added[1] / added[0]:.2f}" if added[0] > 0.1 else ""
        print(f"| {case} | {base:.2f} | {added[0]:+.2f} | {added[1]:+.2f} | {added[1] / base:+.1%} | {share} |")


def generation(rounds: int, differences: dict[tuple[str, str], list[float]]) -> list[str]:
    """Let fresh processes take turns for some rounds; add to `differences`, and return the names of the cases.

    What is added for the plain SDK are its times, for the others what they take longer in the same round.
    """
    processes = {
        name: subprocess.Popen(
            [sys.executable, __file__, "--worker", name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for name in CONFIGURATIONS
    }
    try:
        _, _, cases = (json.loads(process.stdout.readline()) for process in processes.values())
        for _ in range(rounds):
            for case in cases:
                base = 0.0
                for name, process in processes.items():
                    process.stdin.write(case + "\n")
                    process.stdin.flush()
                    differences.setdefault((case, name), []).append(float(process.stdout.readline()) - base)
                    base = base or differences[case, name][-1]
        return cases
    finally:
        for process in processes.values():
            process.kill()
            process.wait()


if __name__ == "__main__":
    main()
