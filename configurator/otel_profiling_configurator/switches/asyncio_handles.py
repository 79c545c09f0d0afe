"""Labels follow asyncio's switches on the standard library's event loops.

Everything such a loop runs, a task's step, a callback or a timer, it runs as `asyncio.Handle._run`, in the context that the
handle was made with. (uvloop has handles of its own.)

The labels of a step stay until the next handle, or the loop's end: taking them off after each would double the cost of a
task's consecutive steps, and what runs in between is the loop's own work on behalf of the steps.
"""

from __future__ import annotations

import asyncio
import functools
from asyncio.base_events import BaseEventLoop
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import opentelemetry.context as context_api
from opentelemetry.context import Context

from ..thread_labels import carry, refresh


def install() -> Callable[[], None]:
    """Follow the switches; return what puts the original methods back (asyncio of Python 3.10 to 3.14)."""
    run, run_forever = asyncio.Handle._run, BaseEventLoop.run_forever
    variable = getattr(context_api._RUNTIME_CONTEXT, "_current_context", None)
    if isinstance(variable, ContextVar):
        # The usual case: look into the handle's context without entering it.
        nothing = Context()

        @functools.wraps(run)
        def _run(self: Any) -> Any:
            carry(self._context.get(variable, nothing))
            return run(self)
    else:

        @functools.wraps(run)
        def _run(self: Any) -> Any:
            self._context.run(refresh)
            return run(self)

    @functools.wraps(run_forever)
    def forever(self: BaseEventLoop) -> None:
        try:
            run_forever(self)
        finally:
            refresh()

    asyncio.Handle._run = _run  # type: ignore[method-assign] # what an instrumentation does
    BaseEventLoop.run_forever = forever  # type: ignore[method-assign] # as above

    def undo() -> None:
        if asyncio.Handle._run is _run:
            asyncio.Handle._run = run  # type: ignore[method-assign] # as above
        if BaseEventLoop.run_forever is forever:
            BaseEventLoop.run_forever = run_forever  # type: ignore[method-assign] # as above

    return undo
