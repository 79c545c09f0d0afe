"""Labels follow every switch of the current context, whatever makes it: CPython 3.14 and later tell of each.

That takes a module in C, which `_context_watcher.c` says why. Where it was not built, where another runtime context than the
default one is in use, or on an older Python, each library is followed by itself.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import opentelemetry.context as context_api

from ..threads.thread_labels import carry
from .loops import followed_loop


def install() -> Callable[[], None] | None:
    """Follow the switches on all threads; return what ends that, or None where they can't be followed."""
    variable = getattr(context_api._RUNTIME_CONTEXT, "_current_context", None)
    if not isinstance(variable, ContextVar):
        return None
    try:
        from ._context_watcher import unwatch, watch  # noqa: PLC0415 - not there on older Pythons

        watch(variable, carry)
    except (ImportError, RuntimeError):  # the interpreter has room for eight watchers
        return None
    return unwatch


def watched_loop(run_forever: Callable[[Any], None]) -> Callable[[Any], None]:
    """Return a loop class's `run_forever`; the labels of a step stay until the next one, or the loop's end, see `loops`."""
    from ._context_watcher import enter_loop, leave_loop  # noqa: PLC0415 - not there on older Pythons

    @functools.wraps(run_forever)
    def run_forever_watched(self: Any) -> None:
        outer = enter_loop()
        try:
            run_forever(self)
        finally:
            leave_loop(outer)

    return followed_loop(run_forever_watched)
