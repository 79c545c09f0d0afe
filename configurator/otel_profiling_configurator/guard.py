"""Keeps our failures away from the application we run in.

Every entry from outside (a hook, a wrapper, an activation) goes through `guarded` or calls `report` itself. What went
wrong is said once for each place, so that a fault in a hot path cannot flood a log. Our own tests must still see such
failures: they set `reraise`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from .log import logger

P = ParamSpec("P")
R = TypeVar("R")

reraise = False
"""True in tests only: failures of ours propagate instead of being logged."""

_reported: set[str] = set()


def report(where: str) -> None:
    """Log the exception being handled, once for each `where`; re-raise it in tests.

    Args:
        where: What was being done, as the end of the sentence "otel-profiling failed to ...".
    """
    if reraise:
        raise  # noqa: PLE0704 - called from except blocks only, re-raises what they caught
    if where not in _reported and not logger.disabled:
        _reported.add(where)
        logger.warning(
            "failed to %s; the application and its traces go on, profiles may lack labels. Said once.",
            where,
            exc_info=True,
        )


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
