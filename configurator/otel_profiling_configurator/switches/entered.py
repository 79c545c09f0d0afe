"""Functions that are about to be run on another thread, in a context copied from this one.

A worker thread enters such a context with `contextvars.Context.run`, which tells nobody. So what it is
going to run there is wrapped while it is still on its way.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from contextvars import Context as ThreadContext
from types import BuiltinMethodType
from typing import Any

from opentelemetry.context import Context

from ..threads.thread_labels import carry, refresh


def following(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return `function`, to be run by a worker thread: it carries the labels of the context it is run in, and none after it."""

    def run_and_follow(*args: Any, **kwargs: Any) -> Any:
        refresh()
        try:
            return function(*args, **kwargs)
        finally:
            carry(Context())

    with contextlib.suppress(Exception):  # a proxy may answer with anything when asked for its name
        functools.update_wrapper(run_and_follow, function, updated=())
    return run_and_follow


def followed_run(function: Any) -> Any:
    """Return `function`, having the labels follow if it is the `run` of some context, or a partial call of that.

    Anything else is returned as it is: it runs in the thread's own context.
    """
    if type(function) is functools.partial:
        run = followed_run(function.func)
        return function if run is function.func else functools.partial(run, *function.args, **function.keywords)
    # By its type first: whatever else the application hands over is not to be asked for anything.
    if type(function) is not BuiltinMethodType or type(function.__self__) is not ThreadContext or function.__name__ != "run":
        return function

    @functools.wraps(function)
    def run_and_follow(inner: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        try:
            return function(_entered, inner, *args, **kwargs)
        finally:
            refresh()

    return run_and_follow


def _entered(function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    """Call `function`, which is the first to run in this context on this thread."""
    refresh()
    return function(*args, **kwargs)
