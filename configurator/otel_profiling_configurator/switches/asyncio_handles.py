"""Labels follow asyncio's switches on the standard library's event loops.

Everything such a loop runs, a task's step, a callback or a timer, it runs as `asyncio.Handle._run`, in the context that the
handle was made with. (uvloop has handles of its own.)
"""

from __future__ import annotations

import asyncio
import functools
import sys
from asyncio.base_events import BaseEventLoop
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import opentelemetry.context as context_api

from ..threads.thread_labels import refresh, running
from .attributes import replacing
from .context_watcher import watched_loop
from .loops import followed_create_task, followed_loop


def install(_library: object) -> Callable[[], None]:
    """Follow the switches; return what puts the original methods back (asyncio of Python 3.10 to 3.14)."""
    with replacing() as replace:
        replace(BaseEventLoop, "run_forever", followed_loop(BaseEventLoop.run_forever))
        if sys.version_info >= (3, 12):
            replace(BaseEventLoop, "create_task", followed_create_task(BaseEventLoop.create_task))
        replace(asyncio.Handle, "_run", _followed_run(asyncio.Handle._run))
    return replace.undo


def install_watched(_library: object) -> Callable[[], None]:
    """Do what is left to do beside `context_watcher`."""
    with replacing() as replace:
        replace(BaseEventLoop, "run_forever", watched_loop(BaseEventLoop.run_forever))
    return replace.undo


def _followed_run(run: Callable[[Any], Any]) -> Callable[[Any], Any]:
    variable = getattr(context_api._RUNTIME_CONTEXT, "_current_context", None)
    if isinstance(variable, ContextVar):
        return functools.wraps(run)(running(run, variable))

    # Somebody else's runtime context: it has to be asked.
    @functools.wraps(run)
    def _run(self: Any) -> Any:
        self._context.run(refresh)
        return run(self)

    return _run
