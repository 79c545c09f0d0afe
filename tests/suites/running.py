"""Runs a suite in one of three ways, and returns what became of each test, whatever becomes of the process."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

from otel_profiling_distro.receiver import Receiver

from .comparison import BAD, PROCESS
from .table import Suite

INSIDE = Path(__file__).parent / "inside"
UPSTREAM = Path(__file__).parent / "upstream"
_INSTRUMENT = str(Path(sys.executable).parent / "opentelemetry-instrument")
STANDSTILL = 240
"""Seconds without an outcome after which a process is ended; the longest tests take some 60 s."""
ATTEMPTS = 8
"""How many processes a run may need: each that ends early costs one."""
NO_TESTS_LEFT = 5
"""The exit code of both runners where everything was deselected."""


@dataclass
class Result:
    """What became of the tests of a run."""

    outcomes: dict[str, str] = field(default_factory=dict)
    messages: dict[str, str] = field(default_factory=dict)
    """Of those that failed."""
    files: dict[str, str] = field(default_factory=dict)
    """Where each test is: a file, or a class."""
    seconds: float = 0
    cpu_seconds: float = 0
    """Of all its processes."""
    profiled: bool = True
    """Whether a profile with a test's span arrived, or any at all where the suite is idle."""


@dataclass(frozen=True)
class Runner:
    """Runs the tests of a suite in `folder`, and keeps logs there."""

    suite: Suite
    folder: Path

    def plain(self, only: Collection[str] | None = None) -> Result:
        """As the project runs it."""
        return self._run("plain", [], {}, only)

    def profiled(self, only: Collection[str] | None = None) -> Result:
        """With profiling, and a span around each test; of what arrives only that it did is looked at."""
        with Receiver() as receiver:
            result = self._run("profiled", [_INSTRUMENT], _variables(receiver), only)
            names = {sample.label("span_name") for sample in receiver.samples()}
            result.profiled = bool(names) if self.suite.is_idle else not names.isdisjoint(result.outcomes)
        return result

    def traced(self, only: Collection[str] | None = None) -> Result:
        """With OpenTelemetry and its spans, as if we were not installed."""
        # As `opentelemetry-instrument` has it: itself, and the working directory.
        path = os.pathsep.join(map(str, (UPSTREAM, self.folder, INSIDE)))
        with Receiver() as receiver:
            return self._run("traced", [], _variables(receiver) | {"PYTHONPATH": path}, only)

    def _run(self, way: str, prefix: list[str], variables: dict[str, str], only: Collection[str] | None) -> Result:
        result = Result()
        began, used = time.monotonic(), _cpu_seconds()
        for attempt in range(ATTEMPTS):
            log = self.folder / f"{way}.log"
            code = self._process([*prefix, *self._command()], variables, only, result, log)
            lost = [test for test, outcome in result.outcomes.items() if outcome == "started"]
            for test in lost:
                result.outcomes[test] = "lost"
                result.messages[test] = f"its process left with {code}\n{_tail(log)}"
            if not lost and (code >= 0 or attempt):
                break
        if only is None:
            failed = code not in (0, NO_TESTS_LEFT) and BAD.isdisjoint(result.outcomes.values())
            result.outcomes[PROCESS] = "failed" if failed or not result.files else "passed"
            result.messages[PROCESS] = f"exit code {code}\n{_tail(log)}"
        result.seconds, result.cpu_seconds = time.monotonic() - began, _cpu_seconds() - used
        return result

    def _command(self) -> list[str]:
        if self.suite.cpython:
            return [sys.executable, str(INSIDE / "suites_cpython.py"), *self.suite.arguments]
        return [sys.executable, "-m", "pytest", "-p", "suites_pytest", "-p", "no:cacheprovider", *self.suite.arguments]

    def _process(
        self, command: list[str], variables: dict[str, str], only: Collection[str] | None, result: Result, log: Path
    ) -> int:
        """Run a process on what has no outcome yet, and add what it notes; returns its exit code, negative for a signal."""
        notes, without, files = (self.folder / name for name in (".outcomes", ".without", ".only"))
        notes.unlink(missing_ok=True)
        without.write_text("".join(f"{test}\n" for test in result.outcomes))
        environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("OTEL_", "PYROSCOPE_", "SUITES_", "PYTEST_"))
        } | {
            "PYTHONPATH": str(INSIDE),
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
            "SUITES_OUTCOMES": str(notes),
            "SUITES_WITHOUT": str(without),
            **dict(self.suite.environment),
        }
        if only is not None:
            files.write_text("".join(f"{file}\n" for file in only))
            environment["SUITES_ONLY"] = str(files)
        with log.open("w") as output:
            process = subprocess.Popen(
                command,
                cwd=self.folder,
                env=environment | variables,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                # A background job of a shell ignores SIGINT, and so would what it starts.
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # noqa: PLW1509 - takes no lock
            )
            try:
                _wait(process, notes)
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        _read(notes, result)
        return process.returncode


def _wait(process: subprocess.Popen[bytes], notes: Path) -> None:
    """Return when the process has ended, or has noted nothing for too long."""
    size, since = -1, time.monotonic()
    while process.poll() is None and time.monotonic() - since < STANDSTILL:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(1)
        now = notes.stat().st_size if notes.exists() else 0
        if now != size:
            size, since = now, time.monotonic()


def _read(notes: Path, result: Result) -> None:
    if notes.exists():
        for line in map(json.loads, notes.read_text().splitlines()):
            result.outcomes[line["test"]] = line["outcome"]
            result.files[line["test"]] = line["file"]
            if line["message"]:
                result.messages[line["test"]] = line["message"]


def _cpu_seconds() -> float:
    """Return what all ended children have used."""
    times = os.times()
    return times.children_user + times.children_system


def _variables(receiver: Receiver) -> dict[str, str]:
    """Return what is the same with and without profiling; no more than is needed: OpenTelemetry's own tests read it, too."""
    return {
        "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url,
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        "OTEL_METRICS_EXPORTER": "none",
        "OTEL_LOGS_EXPORTER": "none",
        "OTEL_PROFILING_SERVER_ADDRESS": receiver.url,
        "SUITES_SPANS": "1",
    }


def _tail(log: Path, lines: int = 40) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])
