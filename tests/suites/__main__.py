"""The command line: runs suites, tells what differs, and leaves with 1 where a test fails only with us."""

from __future__ import annotations

import argparse
import importlib.util
import signal
import sys
import time
from pathlib import Path

from . import comparison, known, sources
from .comparison import PROCESS, Verdict, judge, worse
from .running import Result, Runner
from .table import SUITES, Suite

BUILD = Path(__file__).parents[2] / "build" / "suites-{}.{}".format(*sys.version_info)


def compare(runner: Runner, entries: list[known.Known]) -> tuple[Verdict, Result, Result]:
    """Run the suite as often as is needed; returns what follows, and the two first runs."""
    plain, profiled = runner.plain(), runner.profiled()
    again, traced = (Result(), Result()), (Result(), Result())
    if first := worse(plain.outcomes, profiled.outcomes):
        files = _files(first, plain, profiled)
        again = runner.plain(files), runner.profiled(files)
        if twice := first & worse({test: again[0].outcomes.get(test, "lost") for test in first}, again[1].outcomes):
            files = _files(twice, plain, profiled)
            traced = runner.traced(files), runner.traced(files)
    tests = plain.outcomes | profiled.outcomes
    verdict = judge(
        plain.outcomes,
        profiled.outcomes,
        (again[0].outcomes, again[1].outcomes),
        (traced[0].outcomes, traced[1].outcomes),
        known.matching(entries, runner.suite.name, tests),
    )
    return verdict, plain, profiled


def _files(tests: set[str], *results: Result) -> set[str] | None:
    """Return the files that have the tests; None stands for all of them."""
    if PROCESS in tests:
        return None
    return {file for result in results for test, file in result.files.items() if test in tests}


def report(suite: Suite, verdict: Verdict, plain: Result, profiled: Result, reasons: dict[str, str]) -> None:
    """Print one line for the suite, and what differs below it."""
    bad = sum(outcome in comparison.BAD for outcome in plain.outcomes.values())
    print(
        f"{suite.name:24} {len(verdict.alike):5} tests alike ({bad} fail both ways), {len(verdict.ours)} fail only with us, "
        f"{len(verdict.known)} known, {len(verdict.opentelemetrys)} OpenTelemetry's, {len(verdict.unstable)} unstable; "
        f"{plain.seconds:.0f} s ({plain.cpu_seconds:.0f} s of CPU), "
        f"with us {profiled.seconds:.0f} s ({profiled.cpu_seconds:.0f} s)",
        flush=True,
    )
    for test in sorted(verdict.ours):
        told = profiled.messages.get(test, "").strip().replace("\n", "\n        ")
        print(f"    ONLY WITH US {test}: {plain.outcomes.get(test)}, {profiled.outcomes.get(test)}\n        {told}")
    for test in sorted(verdict.known):
        print(f"    known        {test}: {reasons[test]}")
    for kind, tests in (
        ("OpenTelemetry", verdict.opentelemetrys),
        ("unstable", verdict.unstable),
        ("known, but well", verdict.healed),
    ):
        for test in sorted(tests):
            print(f"    {kind:12} {test}: {plain.outcomes.get(test)}, {profiled.outcomes.get(test)}")
    if not plain.files:
        print(f"    NOT RUN      {plain.messages.get(PROCESS)}")
    elif not profiled.profiled:
        print("    NOT PROFILED no sample with the span of one of its tests has arrived")
    sys.stdout.flush()


def main() -> int:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.suites", description="Others' test suites, with profiling and without."
    )
    parser.add_argument("suites", nargs="*", metavar="SUITE", help=f"{', '.join(suite.name for suite in SUITES)}; default: all")
    parser.add_argument("--quick", action="store_true", help="only those that take little time")
    options = parser.parse_args()
    if unknown := set(options.suites) - {suite.name for suite in SUITES}:
        parser.error(f"no such suite: {', '.join(sorted(unknown))}")
    chosen = [
        suite for suite in SUITES if (suite.name in options.suites if options.suites else suite.quick or not options.quick)
    ]
    entries = known.read()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # no test's process outlives us
    began = time.monotonic()
    passed = failed = skipped = 0
    for suite in chosen:
        if suite.cpython and importlib.util.find_spec(f"test.{suite.name}") is None:
            print(f"{suite.name:24} is left out: this Python was installed without it")
            skipped += 1
            continue
        runner = Runner(suite, sources.prepare(suite, BUILD))
        verdict, plain, profiled = compare(runner, entries)
        reasons = known.matching(entries, suite.name, plain.outcomes | profiled.outcomes)
        report(suite, verdict, plain, profiled, reasons)
        passed += len(verdict.alike) + len(verdict.known) + len(verdict.opentelemetrys) + len(verdict.unstable)
        failed += len(verdict.ours) + (not (plain.files and profiled.profiled))
    print(f"in {time.monotonic() - began:.0f} s")
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
