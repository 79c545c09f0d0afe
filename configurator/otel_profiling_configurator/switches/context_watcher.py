"""Labels follow every switch of the current context, whoever makes it: CPython 3.14 and later tell.

``PyContext_AddWatcher`` is a C function, so the interpreter's own shared objects are called through `ctypes`. The watcher is
called on the thread that switches, after each entry to a context and after each exit, which is twice a step of a task.

While an event loop runs, leaving a task's context for the loop's own changes nothing: the labels stay until the next step.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import opentelemetry.context as context_api
from opentelemetry.context import Context

from ..thread_labels import carry
from .loops import of_thread


def install() -> Callable[[], None]:
    """Watch the interpreter; return what ends that.

    Raises:
        AttributeError, TypeError, RuntimeError: This interpreter has no context watchers, or all eight are taken.
    """
    api = ctypes.pythonapi
    variable = getattr(context_api._RUNTIME_CONTEXT, "_current_context", None)
    if not isinstance(variable, ContextVar):
        raise TypeError("the runtime context keeps the current context in some way of its own")
    nothing = Context()

    def switched(_event: int, context: Any) -> int:  # there is only one event so far
        try:
            if context is not of_thread.base or context is None:
                carry(nothing if context is None else context.get(variable, nothing))
            if of_thread.learning:  # the last switch before the loop runs is the one to its context
                of_thread.base = context
        except Exception:  # noqa: BLE001 - the interpreter would print it
            return 0
        return 0

    callback = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.py_object)(switched)
    number = api.PyContext_AddWatcher(callback)
    if number < 0:
        raise RuntimeError("all context watchers are taken")

    def undo() -> None:
        api.PyContext_ClearWatcher(number)
        # The interpreter may be calling it right now: it lives on.
        _retired.append(callback)

    return undo


_retired: list[Any] = []
