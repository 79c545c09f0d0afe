"""Has the workers of process pools begin outside of any span: what they do is their jobs' work.

`multiprocessing.Pool` and `ProcessPoolExecutor` fork their workers when they are needed, in the middle of some request, whose
context each worker would keep for as long as it lives. A plain `multiprocessing.Process` keeps it, since it was made for that
request. Who submitted a job can't be known in a worker: to tell it would change what is pickled for the application.

A worker is told by what its process runs (CPython 3.10 to 3.14). Nothing of the application's is replaced.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

import opentelemetry.context as context_api
from opentelemetry.context import Context

_WORKERS = {("multiprocessing.pool", "worker"), ("concurrent.futures.process", "_process_worker")}
"""Module and name of what the workers run."""

_active = False
_fork_hook_registered = False
_arranged = False


def install() -> Callable[[], None]:
    """Have workers that are forked from now on begin with an empty context; return what ends that."""
    global _active, _fork_hook_registered  # noqa: PLW0603 - process-wide facts
    _active = True
    if not _fork_hook_registered and hasattr(os, "register_at_fork"):
        os.register_at_fork(before=_before_fork)  # for good: Python has no way to take such hooks back
        _fork_hook_registered = True

    def undo() -> None:
        global _active  # noqa: PLW0603 - as above
        _active = False

    return undo


def _before_fork() -> None:
    """Arrange what a child of `multiprocessing` does first; what isn't imported by now doesn't make the child."""
    global _arranged  # noqa: PLW0603 - a process-wide fact
    util: Any = sys.modules.get("multiprocessing.util")
    if _active and not _arranged and hasattr(util, "register_after_fork"):
        _arranged = True
        util.register_after_fork(util, _begin)  # as a key it wants an object that lives on


def _begin(_util: Any) -> None:
    """Leave the span that the parent was in, if this process is a pool's worker; called before anything of the application's.

    Nothing here may log: another thread of the parent may have held a handler's lock at the time of the fork.
    """
    target = getattr(sys.modules["multiprocessing.process"].current_process(), "_target", None)
    if _active and (getattr(target, "__module__", None), getattr(target, "__qualname__", None)) in _WORKERS:
        context_api.attach(Context())
