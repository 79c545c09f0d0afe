"""What can be seen of a running process of the same user from outside, in ``/proc``: nothing in it is stopped or changed."""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from otel_profiling_configurator.settings import CONFIG_FILE, Settings

from . import published, server
from .effective import findings as setting_findings
from .effective import read, settings
from .finding import Finding, Level, Report

_PROC = Path("/proc")
_AGENT_LIBRARY = "/pyroscope/_native"
_OUR_LIBRARY = "/otel_profiling_configurator/native/_native"
_SHOWN_CHARACTERS = 200


def examine(pid: int, proc: Path = _PROC) -> Report:
    """Return what is found of a process. Its settings are those of its environment at its start.

    Args:
        pid: Its id.
        proc: Where the kernel shows processes.
    """
    if sys.platform != "linux":
        return Report([Finding("process", Level.FAULT, "a process can only be looked at on Linux.", "", "Ask it by a signal.")])
    try:
        return _examine(proc, proc / str(pid))
    except (FileNotFoundError, ProcessLookupError):
        fact, remedy = f"there is no process {pid}, or it has just ended.", "Look it up: ps"
    except PermissionError as error:
        fact, remedy = f"process {pid} can't be looked at: {error.strerror}.", "Ask as its own user."
    return Report([Finding("process", Level.FAULT, fact, "Whether it is profiled is not known.", remedy)])


def _examine(proc: Path, folder: Path) -> Report:
    environ = _environ((folder / "environ").read_bytes())
    command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    mapped = (folder / "maps").read_text(errors="replace")
    threads = [(task / "comm").read_text(errors="replace").strip() for task in (folder / "task").iterdir()]
    descriptors = Counter(_kind(link) for link in (folder / "fd").iterdir())
    reading = read(_with_whole_path(environ, folder))
    found = [Finding("process", Level.OK, f"process {folder.name}: {_shown(command)}, for {_age(folder)}")]
    found += setting_findings(reading)
    found += _libraries(mapped, reading.settings.enabled)
    found += published.findings(folder, mapped)
    if _AGENT_LIBRARY in mapped:
        found += _server(folder, proc, reading.settings, environ)
    names = ", ".join(f"{count} {name!r}" for name, count in Counter(threads).most_common(6))
    found.append(Finding("threads", Level.OK, f"{len(threads)} threads: {names}"))
    kinds = ", ".join(f"{count} {name}" for name, count in descriptors.most_common(6))
    found.append(Finding("descriptors", Level.OK, f"{sum(descriptors.values())} descriptors: {kinds}"))
    return Report(found, settings(reading))


def _with_whole_path(environ: dict[str, str], folder: Path) -> dict[str, str]:
    """Return an environment in which the name of the configuration file does not depend on who reads it."""
    path = environ.get(CONFIG_FILE, "").strip()
    return environ | {CONFIG_FILE: str((folder / "cwd").readlink() / path)} if path else environ


def _server(folder: Path, proc: Path, wanted: Settings, environ: dict[str, str]) -> Iterator[Finding]:
    """Yield what the process's server answers, asked with the process's settings, if our network is that of the process."""
    if (folder / "ns/net").readlink() == (proc / "self/ns/net").readlink():
        yield from server.findings(wanted, environ)
    else:
        yield Finding(
            "server",
            Level.NOTE,
            "it was not asked: the process has another network than the doctor.",
            "Whether the server takes profiles is not known.",
            "Run the doctor where the process runs, such as in its container.",
        )


def _libraries(mapped: str, enabled: bool) -> list[Finding]:
    """Return which of the libraries that profile are in the process."""
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
