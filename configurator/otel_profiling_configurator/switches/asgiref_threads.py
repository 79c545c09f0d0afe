"""Labels follow a context through asgiref, which Django uses to call synchronous code from asynchronous and back.

`sync_to_async` runs a function on a worker thread, inside a context that is handed to `SyncToAsync.thread_handler` as its
`run`. Back again, both directions copy the variables that changed into the context they return to, one by one: the current
span among them, if it was attached and never detached. (asgiref 3.4 to 3.13 at least.)
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from ..threads.thread_labels import refresh
from .attributes import replacing
from .entered import followed_run


def install(sync: Any) -> Callable[[], None]:
    """Follow the switches; return what puts the originals back."""
    thread_handler = sync.SyncToAsync.thread_handler

    @functools.wraps(thread_handler)
    def handler(self: Any, *args: Any, **kwargs: Any) -> Any:
        return thread_handler(self, *map(followed_run, args), **kwargs)

    with replacing() as replace:
        replace(sync.SyncToAsync, "thread_handler", handler)
        _follow_restored_context(sync, replace)
    return replace.undo


def install_watched(sync: Any) -> Callable[[], None]:
    """Do what is left to do beside `context_watcher`: variables change there, and no context is switched."""
    with replacing() as replace:
        _follow_restored_context(sync, replace)
    return replace.undo


def _follow_restored_context(sync: Any, replace: replacing) -> None:
    restore: Callable[..., None] | None = getattr(sync, "_restore_context", None)
    if restore is None:
        return

    @functools.wraps(restore)
    def restore_and_follow(*args: Any, **kwargs: Any) -> None:
        restore(*args, **kwargs)
        refresh()

    replace(sync, "_restore_context", restore_and_follow)
