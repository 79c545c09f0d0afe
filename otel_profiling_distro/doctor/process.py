"""What can be seen of a running process of the same user from outside, in ``/proc``: nothing in it is stopped or changed."""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from pathlib import Path

from .effective import findings as setting_findings
from .effective import read, settings
from .finding import Finding, Level, Report

_PROC = Path("/proc")
_AGENT_LIBRARY = "/pyroscope/_native"
_OUR_LIBRARY = "/otel_profiling_configurator/native/_native"
_PUBLISHED = "OTEL_CTX"
_SHOWN_CHARACTERS = 200


def examine(pid: int, proc: Path = _PROC) -> Report:
    """Return what is found of a process. Its settings are those of its environment at its start.

    Args:
        pid: Its id.
        proc: Where the kernel shows processes.
    """
    folder = proc / str(pid)
    if sys.platform != "linux":
        return Report([Finding("process", Level.FAULT, "a process can only be looked at on Linux.", "", "Ask it by a signal.")])
    try:
        environ = _environ((folder / "environ").read_bytes())
        command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
        mapped = (folder / "maps").read_text(errors="replace")
        threads = [(task / "comm").read_text(errors="replace").strip() for task in (folder / "task").iterdir()]
        descriptors = Counter(_kind(link) for link in (folder / "fd").iterdir())
    except FileNotFoundError:
        return Report(
            [Finding("process", Level.FAULT, f"there is no process {pid}, or it has just ended.", "", "Look it up: ps")]
        )
    except PermissionError as error:
        return Report(
            [
                Finding(
                    "process", Level.FAULT, f"process {pid} can't be looked at: {error.strerror}.", "", "Ask as its own user."
                )
            ]
        )
    reading = read(environ)
    found = [Finding("process", Level.OK, f"process {pid}: {_shown(command)}, for {_age(folder)}")]
    found += setting_findings(reading)
    found += _libraries(mapped, reading.settings.enabled)
    names = ", ".join(f"{count} {name!r}" for name, count in Counter(threads).most_common(6))
    found.append(Finding("threads", Level.OK, f"{len(threads)} threads: {names}"))
    kinds = ", ".join(f"{count} {name}" for name, count in descriptors.most_common(6))
    found.append(Finding("descriptors", Level.OK, f"{sum(descriptors.values())} descriptors: {kinds}"))
    return Report(found, settings(reading))


def _libraries(mapped: str, enabled: bool) -> list[Finding]:
    """Return which of the libraries that profile are in the process, and whether it has published its context."""
    found = []
    if _AGENT_LIBRARY in mapped:
        found.append(Finding("agent", Level.OK, "the agent's library is loaded"))
    elif enabled:
        found.append(
            Finding(
                "agent",
                Level.FAULT,
                "the agent's library is not loaded.",
                "The process is not profiled.",
                "Was it started by opentelemetry-instrument, in an environment that has otel-profiling-distro?",
            )
        )
    if _OUR_LIBRARY in mapped:
        found.append(Finding("native module", Level.OK, "the native module is loaded"))
    elif enabled and _AGENT_LIBRARY in mapped:
        found.append(
            Finding(
                "native module",
                Level.WARNING,
                "the native module is not loaded.",
                "Samples are labelled by thread, so short steps are labelled less exactly.",
                "otel-profiling doctor, in its environment, says why.",
            )
        )
    is_published = any(_PUBLISHED in line for line in mapped.splitlines())
    found.append(
        Finding(
            "published",
            Level.OK if is_published else Level.NOTE,
            f"{'a' if is_published else 'no'} process context is published",
        )
    )
    return found


def _environ(data: bytes) -> dict[str, str]:
    pairs = (entry.partition(b"=") for entry in data.split(b"\0") if b"=" in entry)
    return {os.fsdecode(name): os.fsdecode(value) for name, _, value in pairs}


def _kind(link: Path) -> str:
    try:
        target = str(link.readlink())
    except OSError:
        return "closed"
    if target.startswith("anon_inode:"):
        return target.partition(":")[2].strip("[]")
    return target.partition(":")[0] if ":[" in target else "file"


def _age(folder: Path) -> str:
    return f"{max(time.time() - folder.stat().st_mtime, 0):.0f} s"


def _shown(command: str) -> str:
    """Return a command as a line can have it. What stands on it, `ps` shows to everybody."""
    return ascii(command[:_SHOWN_CHARACTERS])[1:-1]
