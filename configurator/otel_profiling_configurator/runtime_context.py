"""Notices every attach and detach of an OpenTelemetry context.

The SDK tells nobody when the current context changes: span processors see spans start and end, and that is another thing
(a span may be started and never made current, ended by another thread, or attached for a moment in a callback).
So the runtime context, the object behind `opentelemetry.context.attach` and `detach`, is replaced by one that says so.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import Token

import opentelemetry.context as context_api
from opentelemetry.context import Context
from opentelemetry.context.context import _RuntimeContext
from opentelemetry.context.contextvars_context import ContextVarsRuntimeContext

from .thread_labels import attaching, detaching


class ProfilingRuntimeContext(_RuntimeContext):
    """Delegates to the runtime context that was there, and has the thread's labels follow."""

    # Slots that hold plain functions, where the base class has methods: `opentelemetry.context` looks them up and calls them
    # with everything the API does, and this is the cheapest it can be had.
    __slots__ = ("_current_context", "attach", "detach", "get_current", "inner")

    def __init__(self, inner: _RuntimeContext) -> None:
        attach: Callable[[Context], Token[Context]] = inner.attach
        detach: Callable[[Token[Context]], None] = inner.detach
        get_current = inner.get_current
        if type(inner) is ContextVarsRuntimeContext:
            # The default one only forwards to its variable. Calling that directly pays for most of what we add.
            variable = inner._current_context
            attach, detach, get_current = variable.set, variable.reset, variable.get
            self._current_context = variable  # where others look for it
        self.inner = inner
        set_slot = super().__setattr__  # to type checkers they are methods
        set_slot("attach", attaching(attach))
        set_slot("detach", detaching(detach, get_current))
        set_slot("get_current", get_current)


def install() -> Callable[[], None]:
    """Put a `ProfilingRuntimeContext` in front of the current runtime context; return what takes it away.

    `opentelemetry.context` looks the private name ``_RUNTIME_CONTEXT`` up with every call (API 1.0 to 1.45 at least), so
    modules that imported `attach` early are covered too. Whoever replaced it after us is left in place by the undo: what
    stays of ours then only delegates.
    """
    inner = context_api._RUNTIME_CONTEXT
    ours = ProfilingRuntimeContext(inner)  # type: ignore[abstract] # its slots are the methods
    context_api._RUNTIME_CONTEXT = ours

    def undo() -> None:
        if context_api._RUNTIME_CONTEXT is ours:
            context_api._RUNTIME_CONTEXT = inner

    return undo
