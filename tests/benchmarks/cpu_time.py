"""How close sampled time is to CPU time: this project, `pyroscope-io` alone and ddtrace's profiler, on the same work.

Each figure is a process of its own. Its threads, or tasks, have a span and a function each, and use some seconds of CPU time
by `time.thread_time`. The share is what a profiler shows of that function, divided by it: 1.00 is the truth, 0 is work that it
does not show, and more than 1 is waiting that it shows as work. With ours a sample must have the label of its function's span,
too; the seconds that have not are beside it. Where a case has several spans, the furthest of them from 1 is in brackets.

A last table has the CPU time of all threads that are not the application's, as a share of a core, by the number of idle ones.

Run as ``python tests/benchmarks/cpu_time.py``; prints Markdown, and with ``--json FILE`` keeps the figures.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import cpu_time_idle
import cpu_time_place
import cpu_time_profiler
import cpu_time_work

from otel_profiling_distro.receiver import Receiver

OURS = cpu_time_profiler.CONFIGURATIONS[0]
IDLE = (0, 100, 1000)
IDLE_COST = (0, 100, 500, 1000)


def worker(configuration: str, target: str, what: dict[str, Any]) -> None:
    """Do what a figure is of in this process, and print it as JSON."""
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    if "cost" in what:
        print(json.dumps(cpu_time_idle.share_of_core(configuration, target, what["cost"], what["seconds"])))
        return
    if what["place"] == "contended":
        os.sched_setaffinity(0, {cpu_time_place.processor()})
    stop = cpu_time_profiler.start(configuration, target)
    over = cpu_time_idle.start_idle(what["idle"])
    try:
        used = cpu_time_work.run(what["case"], what["seconds"])
    finally:
        over.set()
    stop()
    print(json.dumps(used))


def run_worker(configuration: str, target: str, what: dict[str, Any]) -> tuple[Any, str]:
    """Return what a worker has printed, and by what means its CPU time was limited, if it was."""
    place, limit = what.get("place", ""), ""
    command = [sys.executable, __file__, "--worker", configuration, target, json.dumps(what)]
    with cpu_time_place.competitor(place), subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            with contextlib.ExitStack() as stack:
                if place == "quota":
                    limit = stack.enter_context(cpu_time_place.quota(process))
                output, _ = process.communicate(timeout=300 + 60 * what["seconds"])
        except BaseException:
            process.kill()
            raise
    if process.returncode != 0:
        raise RuntimeError(f"{configuration}, {what}: exit code {process.returncode}")
    return json.loads(output.splitlines()[-1]), limit


def measure(configuration: str, what: dict[str, Any]) -> dict[str, Any]:
    """Return one figure: by span the seconds of CPU time used and shown, and what strayed to other spans."""
    strayed = 0.0
    if configuration == "ddtrace":
        with tempfile.TemporaryDirectory() as folder:
            used, limit = run_worker(configuration, f"{folder}/profile", what)
            shown = cpu_time_profiler.kept(Path(folder), used)
    else:
        with Receiver() as receiver:
            used, limit = run_worker(configuration, receiver.url, what)
            shown, strayed = cpu_time_profiler.pushed(receiver, used, labelled=configuration == OURS)
    return {"configuration": configuration, **what, "limit": limit, "used": used, "shown": shown, "strayed": strayed}


def cell(figure: dict[str, Any]) -> str:
    """Return a figure as a cell of the table."""
    used, shown = figure["used"], figure["shown"]
    text = f"{sum(shown.values()) / sum(used.values()):.2f}"
    if len(used) > 1:
        furthest = max((shown[span] / used[span] for span in used), key=lambda share: abs(share - 1))
        text += f" ({furthest:.2f})"
    return text + (f", {figure['strayed']:.2f} s strayed" if figure["strayed"] else "")


def print_shares(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Print a table for each place, and return its figures."""
    figures = []
    for place in arguments.places:
        print(f"\n{place}, seconds shown for each second of CPU time\n")
        print("| work | idle threads | CPU seconds | " + " | ".join(arguments.configurations) + " |")
        print("|---|---|---|" + "---|" * len(arguments.configurations), flush=True)
        for case in arguments.cases:
            for idle in arguments.idle:
                what = {"case": case, "place": place, "idle": idle, "seconds": arguments.seconds}
                row = [measure(configuration, what) for configuration in arguments.configurations]
                figures += row
                used = sum(row[0]["used"].values())
                print(f"| {case} | {idle} | {used:.1f} | " + " | ".join(map(cell, row)) + " |", flush=True)
        limits = {figure["limit"] for figure in figures if figure["place"] == place} - {""}
        if limits:
            print(f"\nHalf a processor, by {' and '.join(sorted(limits))}.", flush=True)
    return figures


def print_costs(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Print what the profilers' own threads cost, and return the figures."""
    figures = []
    print("\nCPU time of the profiler's own threads, share of a core, beside one busy thread\n")
    print("| | " + " | ".join(f"{idle} idle" for idle in arguments.cost_idle) + " |")
    print("|---|" + "---|" * len(arguments.cost_idle), flush=True)
    for configuration in arguments.configurations:
        shares = []
        for idle in arguments.cost_idle:
            what = {"cost": idle, "seconds": arguments.cost_seconds}
            with Receiver() as receiver, tempfile.TemporaryDirectory() as folder:
                target = f"{folder}/profile" if configuration == "ddtrace" else receiver.url
                shares.append(run_worker(configuration, target, what)[0])
            figures.append({"configuration": configuration, "idle": idle, "share": shares[-1]})
        print(f"| {configuration} | " + " | ".join(f"{share:.2%}" for share in shares) + " |", flush=True)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], epilog="All of it takes hours on a quiet machine.")
    parser.add_argument("--seconds", type=float, default=20.0, help="CPU time of each figure, 100 samples a second")
    configurations = cpu_time_profiler.CONFIGURATIONS
    parser.add_argument("--configurations", nargs="*", default=list(configurations), choices=configurations)
    parser.add_argument("--cases", nargs="*", default=list(cpu_time_work.CASES), choices=cpu_time_work.CASES, metavar="CASE")
    parser.add_argument("--places", nargs="*", default=list(cpu_time_place.PLACES), choices=cpu_time_place.PLACES)
    parser.add_argument("--idle", nargs="*", type=int, default=list(IDLE), metavar="THREADS")
    parser.add_argument(
        "--cost-idle", nargs="*", type=int, default=list(IDLE_COST), metavar="THREADS", help="of the last table"
    )
    parser.add_argument("--cost-seconds", type=float, default=30.0, help="of each figure of the last table")
    parser.add_argument("--json", help="where to keep the figures")
    parser.add_argument("--worker", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        configuration, target, what = arguments.worker
        worker(configuration, target, json.loads(what))
        return
    print(f"Python {sys.version.split()[0]}", flush=True)
    shares = print_shares(arguments)
    costs = print_costs(arguments) if arguments.cost_idle else []
    if arguments.json:
        kept = {"python": sys.version.split()[0], "shares": shares, "costs": costs}
        Path(arguments.json).write_text(json.dumps(kept, indent=1))


if __name__ == "__main__":
    main()
