"""Which form is in use: whether the native module is there, and how samples find their labels."""

from __future__ import annotations

from collections.abc import Iterator

from .finding import Finding, Level
from .inside import Outcome

_PTRACE = (
    "Allow it: a seccomp profile must have process_vm_readv (Docker's default one has it from kernel 4.8 on), and the process "
    "must be one that may be traced (no PR_SET_DUMPABLE 0)."
)


def findings(outcome: Outcome, *, agent_starts: bool = True) -> Iterator[Finding]:
    """Yield how samples are labelled there, and why not better.

    Args:
        outcome: What came of the probe.
        agent_starts: Whether an agent of ours is started at all; else nobody knows yet how its samples are labelled.
    """
    told = outcome.told
    if not told or "configurator" in told or told["agent"]:
        return
    refused = told["process_vm_readv"]
    if told["missing_here"]:
        yield Finding(
            "native module",
            Level.WARNING,
            f"the native module is missing: {told['why_missing']}",
            "Samples are labelled by thread, so short steps on asyncio, gevent and the like are labelled less exactly.",
            "There are wheels that have it: pip install --only-binary :all: --force-reinstall --no-deps "
            "otel-profiling-configurator",
        )
    elif not told["native"]:
        yield Finding(
            "native module",
            Level.NOTE,
            f"there is none for this platform: {told['why_missing']}",
            "Samples are labelled by thread, so short steps are labelled less exactly.",
        )
    elif refused:
        yield Finding(
            "native module",
            Level.WARNING,
            f"the kernel refuses process_vm_readv ({refused}).",
            "The agent reads the process in another way, and samples are labelled by thread: short steps less exactly.",
            _PTRACE,
        )
    elif not agent_starts:
        yield Finding("native module", Level.OK, "it is there")
    elif told["why_by_thread"]:
        yield Finding(
            "native module",
            Level.NOTE,
            f"it is there, and samples are labelled by thread all the same: {told['why_by_thread']}.",
            "Short steps are labelled less exactly.",
        )
    else:
        yield Finding("native module", Level.OK, "it is there and in use: samples are labelled by aliases")
