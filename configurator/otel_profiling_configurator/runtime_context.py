"""Notices every attach and detach of an OpenTelemetry context.

The SDK tells nobody when the current context changes: span processors see spans start and end, and that is another thing
(a span may be started and never made current, ended by another thread, or attached for a moment in a callback).
So the runtime context, the object behind `opentelemetry.context.attach` and `detach`, is replaced by one that says so.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import Token
from typing import Any

import opentelemetry.context as context_api
from opentelemetry.context import Context
from opentelemetry.context.context import _RuntimeContext
from opentelemetry.context.contextvars_context import ContextVarsRuntimeContext

from .thread_labels import attaching, detaching


class ProfilingRuntimeContext(_RuntimeContext):
    """Delegates to the runtime context that was there, and has the thread's labels follow."""

    # Slots that hold plain functions, where the base class has methods: `opentelemetry.context` looks them up and calls them
    # with everything the API does, and this is the cheapest it can be had.
    __slots__ = ("_current_context", "attach", "detach", "get_current", "inner", "inner_detach")

    def __init__(self, inner: _RuntimeContext) -> None:
        attach: Callable[[Context], Token[Context]] = inner.attach
        detach: Callable[[Token[Context]], None] = inner.detach
        get_current = inner.get_current
        if type(inner) is ContextVarsRuntimeContext:
            # The default one only forwards to its variable. Calling that directly pays for most of what we add.
            variable = inner._current_context
            attach, detach, get_current = variable.set, variable.reset, variable.get
            self._current_context = variable  # where others look for it
        self.inner, self.inner_detach = inner, detach
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
    shorten = _shorten_api(ours)

    def undo() -> None:
        shorten()
        if context_api._RUNTIME_CONTEXT is ours:
            context_api._RUNTIME_CONTEXT = inner

    return undo


def _shorten_api(ours: ProfilingRuntimeContext) -> Callable[[], None]:
    """Spare callers of `opentelemetry.context` its forwarding functions; return what puts those back.

    `get_current`, `attach` and `detach` of that module do nothing but call the runtime context, and a span calls them five
    times. The SDK finds them in the module with every call, so there the runtime context's own can stand in their place: that
    pays for a third of what we add to a span. Early importers keep the functions that they have, with the same result.
    """
    originals = context_api.get_current, context_api.attach, context_api.detach
    # The API's own `detach` fails in the same way on a wrong token, and logs that.
    replaced: Any = ours.get_current, ours.attach, detaching(ours.inner_detach, ours.get_current, on_failure=context_api.detach)
    context_api.get_current, context_api.attach, context_api.detach = replaced

    def undo() -> None:
        if (context_api.get_current, context_api.attach, context_api.detach) == replaced:
            context_api.get_current, context_api.attach, context_api.detach = originals

    return undo
