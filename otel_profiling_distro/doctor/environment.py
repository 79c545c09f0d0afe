"""Which Python, C library and versions are there, and whether they fit each other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from .finding import Finding, Level
from .inside import Outcome
from .versions import findings as unmet

_REMEDY_AGENT = (
    "Install pyroscope-io for this interpreter and C library: CPython 3.10 to 3.14, Linux (glibc; musl 1.2.4 or later) or "
    "macOS, x86-64 or arm64."
)


def findings(outcome: Outcome) -> Iterator[Finding]:
    """Yield what the probe's interpreter is, and what is missing in it."""
    told = outcome.told
    if not told:
        last = next((line for line in reversed(outcome.errors.splitlines()) if line.strip()), "it said nothing")
        yield Finding(
            "environment",
            Level.FAULT,
            f"Python can't be started under opentelemetry-instrument: {last.strip()}",
            "The application is not instrumented, so nothing is profiled.",
            "Install otel-profiling-distro in the environment that the command runs in.",
        )
        return
    versions: Mapping[str, Any] = told["versions"]
    yield Finding(
        "environment",
        Level.OK,
        f"{told['implementation']} {told['python']} at {told['executable']}, {told['platform']}"
        f"{told['libc'] and ', ' + told['libc']}",
    )
    yield Finding(
        "versions",
        Level.OK,
        ", ".join(f"{name} {version}" for name, version in versions.items() if version) or "none is installed",
    )
    yield from unmet(told)
    if "configurator" in told:
        yield Finding(
            "environment",
            Level.FAULT,
            f"otel-profiling-configurator can't be loaded there: {told['configurator']}",
            "Nothing is profiled.",
            "Install otel-profiling-distro, or otel-profiling-configurator beside another distro, in that environment.",
        )
    yield from _agent(told)


def _agent(told: Mapping[str, Any]) -> Iterator[Finding]:
    if told["agent"]:
        yield Finding(
            "agent",
            Level.FAULT,
            f"the agent, pyroscope-io, can't be loaded on {told['implementation']} {told['python']}: {told['agent']}",
            "Profiling is off, traces go on.",
            _REMEDY_AGENT,
        )
    elif not told["gil"]:
        yield Finding(
            "agent",
            Level.FAULT,
            "this Python runs without the GIL.",
            "pyroscope-io needs it, so profiling is off; traces go on.",
            "Use an ordinary build of Python, or set PYTHON_GIL=1.",
        )
