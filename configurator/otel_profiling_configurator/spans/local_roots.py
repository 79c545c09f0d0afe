"""Which spans begin a unit of work in this process: the local roots, whose labels all that they call forth shares.

A span begins one if

- it has no parent, or its parent is in another process: remote, or started before the fork that made this one;
- its parent is the span of a whole command, as a server's that is started by a click command: all requests are below it;
- it is of the kind ``SERVER`` or ``CONSUMER``, and no span above it in this process is: whatever it is below (a span around a
  worker's loop, or around a script), it is for its own request or message that it works.

All but the last is said by the labels of the parent alone: see `SpanLabels.process`.
"""

from __future__ import annotations

import os
from typing import Any

COMMANDS = "opentelemetry.instrumentation.click"
"""Instrumentation scope whose spans last as long as a command does (opentelemetry-instrumentation-click 0.51b0 to 0.66b1)."""

this_process: object = object()
"""Stands for this process, and is another object in each of its forked children."""


def is_command(tracer: Any) -> bool:
    """Whether the spans of this tracer are those of whole commands.

    Asked of the tracer, since a span that isn't recorded doesn't know who made it. `_instrumentation_scope` is the SDK's name
    (1.30 to 1.45 at least); a tracer that has none makes no such spans.
    """
    try:
        return bool(tracer._instrumentation_scope._name == COMMANDS)
    except AttributeError:
        return False


_follows_forks = False


def follow_forks() -> None:
    """Have forked children know that they are another process; once is enough, and Python has no way to take it back."""
    global _follows_forks  # noqa: PLW0603 - a process-wide fact
    if not _follows_forks and hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=begin_process)
        _follows_forks = True


def begin_process() -> None:
    """Take all spans that have been started so far for another process's: to be called in a forked child."""
    global this_process  # noqa: PLW0603 - as its docstring says
    this_process = object()
