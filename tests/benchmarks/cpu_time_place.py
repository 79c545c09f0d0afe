"""Where the work of the CPU benchmark runs: alone, beside a competitor on the same processor, or under a CPU quota."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

PLACES = ("alone", "contended", "quota")

QUOTA, PERIOD = 50_000, 100_000
"""Half a processor: microseconds of CPU time in so many of the clock's."""


def processor() -> int:
    """Return the processor that the contended work and its competitor share."""
    return max(os.sched_getaffinity(0))


@contextlib.contextmanager
def competitor(place: str) -> Iterator[None]:
    """Have a loop run on `processor`, if the place is a contended one."""
    if place != "contended":
        yield
        return
    source = f"import os\nos.sched_setaffinity(0, {{{processor()}}})\nwhile True:\n    pass\n"
    loop = subprocess.Popen([sys.executable, "-c", source])
    try:
        yield
    finally:
        loop.kill()
        loop.wait()


@contextlib.contextmanager
def quota(process: subprocess.Popen[str]) -> Iterator[str]:
    """Let a process use half a processor; says by what means, a control group's quota or ``SIGSTOP``."""
    group = _group(process.pid)
    if group is not None:
        try:
            yield "a control group"
        finally:
            process.wait()
            group.rmdir()
        return
    over = threading.Event()

    def take_turns() -> None:
        while not over.wait(QUOTA / 1e6):
            process.send_signal(signal.SIGSTOP)
            over.wait((PERIOD - QUOTA) / 1e6)
            process.send_signal(signal.SIGCONT)

    turns = threading.Thread(target=take_turns)
    turns.start()
    try:
        yield "SIGSTOP"
    finally:
        over.set()
        turns.join()


def _group(process: int) -> Path | None:
    """Return a new control group with the quota, and the process in it; None where that is not allowed."""
    for root, quotas in _controllers():
        group = root / f"cpu-time-{process}"
        try:
            group.mkdir()
        except OSError:
            continue
        try:
            for name, value in quotas.items():
                (group / name).write_text(value)
            (group / "cgroup.procs").write_text(str(process))
        except OSError:
            with contextlib.suppress(OSError):
                group.rmdir()
            continue
        return group
    return None


def _controllers() -> Iterator[tuple[Path, dict[str, str]]]:
    """Give this process's control groups that may limit CPU time, with what is to be written there: versions 2 and 1."""
    ours = [line.split(":", 2) for line in Path("/proc/self/cgroup").read_text().splitlines()]
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, mounted, kind, options, *_ = line.split()
        for _, controllers, own in ours:
            if kind == "cgroup2" and not controllers:
                yield Path(mounted, own.lstrip("/")), {"cpu.max": f"{QUOTA} {PERIOD}"}
            elif kind == "cgroup" and "cpu" in controllers.split(",") and "cpu" in options.split(","):
                quotas = {"cpu.cfs_period_us": str(PERIOD), "cpu.cfs_quota_us": str(QUOTA)}
                yield Path(mounted, own.lstrip("/")), quotas
