"""Follows the current context in Python: attach and detach, asyncio's own loops, greenlets.

That is what can be had without the native module, and where the runtime context is somebody's own. uvloop, trio and functions
that worker threads run in a copied context are followed at their next attach or detach, no sooner.
"""

from __future__ import annotations

import asyncio
import functools
import sys
from collections.abc import Callable
from contextvars import ContextVar, Token
from typing import Any

import opentelemetry.context as context_api
from opentelemetry.context import Context
from opentelemetry.context.context import _RuntimeContext

from ..context.labelling import follow, refresh
from ..threads.os_threads import Local
from . import greenlets
from .attributes import replacing


class ProfilingRuntimeContext(_RuntimeContext):
    """Delegates to the runtime context that was there, and has the thread's labels follow."""

    def __init__(self, inner: _RuntimeContext) -> None:
        self.inner = inner
        if hasattr(inner, "_current_context"):
            self._current_context = inner._current_context  # where others look for it

    def attach(self, context: Context) -> Token[Context]:
        """Make a context current."""
        token = self.inner.attach(context)
        follow(context)
        return token

    def get_current(self) -> Context:
        """Return the current context."""
        return self.inner.get_current()

    def detach(self, token: Token[Context]) -> None:
        """Return to the context that was current before."""
        self.inner.detach(token)
        follow(self.inner.get_current())


def install() -> Callable[[], None]:
    """Follow from now on; return what ends that.

    `opentelemetry.context` looks the private name ``_RUNTIME_CONTEXT`` up with every call (API 1.0 to 1.45 at least), so
    modules that imported `attach` early are covered too. Whoever replaced it after us is left in place by the undo: what
    stays of ours then only delegates.
    """
    runtime_context = context_api._RUNTIME_CONTEXT
    with replacing() as replace:
        replace(context_api, "_RUNTIME_CONTEXT", ProfilingRuntimeContext(runtime_context))
        replace(asyncio.Handle, "_run", _followed_run(asyncio.Handle._run, runtime_context))
        undo_greenlets = greenlets.install(PythonTracing())

    def undo() -> None:
        undo_greenlets()
        replace.undo()

    return undo


def _followed_run(run: Callable[[Any], Any], runtime_context: Any) -> Callable[[Any], Any]:
    """Return `Handle._run`, by which asyncio's own loops run everything: a task's step, a callback, a timer."""
    variable = getattr(runtime_context, "_current_context", None)
    no_context = Context()

    @functools.wraps(run)
    def _run(self: Any) -> Any:
        try:
            if isinstance(variable, ContextVar):
                follow(self._context.get(variable, no_context))
            else:
                self._context.run(refresh)
            return run(self)
        finally:
            del self  # as in the original: an exception's traceback would make a cycle of it
            refresh()

    return _run


class _Tracer(Local):  # type: ignore[misc] # a class found at run time
    """The tracer that the application has set on this OS thread."""

    def __init__(self) -> None:
        self.of_application: Any = None


class PythonTracing:
    """Sets a tracer for greenlets that is written in Python, on threads that import greenlet or set one of their own."""

    def __init__(self) -> None:
        self._tracer = _Tracer()
        self._settrace: Callable[[Any], Any] | None = None

    def on_greenlets(self, callback: Callable[[Any], None] | None, /) -> None:
        """Call back once greenlet's extension module has been loaded: importlib looks this up with each one."""
        imp: Any = sys.modules["_imp"]
        if callback is None:
            if hasattr(imp.create_dynamic, "__wrapped__"):
                imp.create_dynamic = imp.create_dynamic.__wrapped__
            return
        create_dynamic = imp.create_dynamic

        @functools.wraps(create_dynamic)
        def create(spec: Any, *args: Any) -> Any:
            module = create_dynamic(spec, *args)
            if spec.name == greenlets.EXTENSION:
                callback(module)
            return module

        imp.create_dynamic = create

    def _trace(self, event: str, args: tuple[Any, Any]) -> None:
        if self._tracer.of_application is not None:
            self._tracer.of_application(event, args)  # if it raises, greenlet drops us both, as it would have dropped it
        refresh()

    def follow_greenlets(self, settrace: Callable[[Any], Any] | None, /) -> None:
        """Set our tracer on the calling thread; None to end that."""
        former, self._settrace = self._settrace, settrace
        if settrace is not None:
            self._tracer.of_application = settrace(self._trace)
        elif former is not None:
            former(self._tracer.of_application)

    def exchange_tracer(self, tracer: Any, /) -> Any:
        """Have ours call this tracer on the calling thread, and return the one before."""
        if self._settrace is None:
            raise LookupError
        former, self._tracer.of_application = self._tracer.of_application, tracer
        self._settrace(self._trace)
        return former

    def application_tracer(self, tracer: Any, /) -> Any:
        """Return the application's tracer where `tracer` is ours."""
        return self._tracer.of_application if tracer == self._trace else tracer
