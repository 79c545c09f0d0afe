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

from .thread_labels import carry


class ProfilingRuntimeContext(_RuntimeContext):
    """Delegates to the runtime context that was there, and has the thread's labels follow."""

    def __init__(self, inner: _RuntimeContext) -> None:
        self.inner = inner
        get_current = inner.get_current
        if type(inner) is ContextVarsRuntimeContext:
            # The default one only forwards to its variable. Calling that directly pays for most of what we add.
            get_current = inner._current_context.get
        self.get_current = get_current  # type: ignore[method-assign] # saves a call on the hottest function of the API

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def attach(self, context: Context) -> Token[Context]:
        """Attach `context` and label the thread accordingly."""
        token = self.inner.attach(context)
        carry(context)
        return token

    def detach(self, token: Token[Context]) -> None:
        """Detach and label the thread as the context that is current again asks."""
        try:
            self.inner.detach(token)
        finally:
            carry(self.get_current())

    def get_current(self) -> Context:  # pragma: no cover - shadowed in __init__, here for the abstract class
        """Return the current context."""
        return self.inner.get_current()


def install() -> Callable[[], None]:
    """Put a `ProfilingRuntimeContext` in front of the current runtime context; return what takes it away.

    `opentelemetry.context` looks the private name ``_RUNTIME_CONTEXT`` up with every call (API 1.0 to 1.45 at least), so
    modules that imported `attach` early are covered too. Whoever replaced it after us is left in place by the undo: what
    stays of ours then only delegates.
    """
    inner = context_api._RUNTIME_CONTEXT
    ours = ProfilingRuntimeContext(inner)
    context_api._RUNTIME_CONTEXT = ours

    def undo() -> None:
        if context_api._RUNTIME_CONTEXT is ours:
            context_api._RUNTIME_CONTEXT = inner

    return undo
