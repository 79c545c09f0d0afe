"""Keeps our failures away from the application we run in.

Every entry from outside (a hook, a wrapper, an activation) goes through `guarded` or calls `report` itself. What went
wrong is said once for each place, so that a fault in a hot path cannot flood a log. Our own tests must still see such
failures: they set `reraise`.

Python calls signal handlers wherever it happens to be, so an exception that one of the application's raises, a time limit for
example, may come up in the middle of ours. That is no failure of ours, and goes where it was meant to.
"""

from __future__ import annotations

import functools
import signal
import sys
from collections.abc import Callable
from types import CodeType
from typing import Any, ParamSpec, TypeVar

from .log import logger

P = ParamSpec("P")
R = TypeVar("R")

reraise = False
"""True in tests only: failures of ours propagate instead of being logged."""

_reported: set[str] = set()


def report(where: str) -> None:
    """Log the exception being handled, once for each `where`; re-raise it in tests, and if it is the application's.

    Args:
        where: What was being done, as the end of the sentence "otel-profiling failed to ...".
    """
    if reraise or is_of_signal_handler():
        raise  # noqa: PLE0704 - called from except blocks only, re-raises what they caught
    if where not in _reported and not logger.disabled:
        _reported.add(where)
        logger.warning(
            "failed to %s; the application and its traces go on, profiles may lack labels. Said once.",
            where,
            exc_info=True,
        )


def is_of_signal_handler() -> bool:
    """Whether the exception being handled came from a signal handler of the application's."""
    error = sys.exc_info()[1]
    trace = None if error is None else error.__traceback__
    codes = set()
    while trace is not None:
        codes.add(trace.tb_frame.f_code)
        trace = trace.tb_next
    return any(_code(signal.getsignal(number)) in codes for number in signal.valid_signals())


def _code(handler: Any) -> CodeType | None:
    """Return the code of a signal handler that is written in Python."""
    while isinstance(handler, functools.partial):
        handler = handler.func
    function = getattr(handler, "__func__", handler)
    if not hasattr(function, "__code__"):
        function = type(handler).__call__ if callable(handler) else None
    return getattr(function, "__code__", None)


def guarded(where: str) -> Callable[[Callable[P, R]], Callable[P, R | None]]:
    """Return a decorator: what the function raises is passed to `report`, and the call returns None."""

    def decorate(function: Callable[P, R]) -> Callable[P, R | None]:
        @functools.wraps(function)
        def wrapper(*args: P.args, **kwargs: P.kwargs) -> R | None:
            try:
                return function(*args, **kwargs)
            except Exception:  # noqa: BLE001 - nothing of ours may reach the application
                report(where)
                return None

        return wrapper

    return decorate
