"""Labels follow uvloop's switches.

uvloop runs its handles in native code, where nothing can be put in between. But whatever a task or a future wants to be run
it hands to the loop by name, `call_soon` above all, together with its context: so what is handed over is wrapped. (uvloop
0.19 to 0.23 at least: its `Loop` is a Python class on top of the native one.) Protocols are called by transports, from native
code to the protocol's methods: what `data_received` does keeps the labels of the step before (until Python 3.14, see
`context_watcher`).
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any

from ..threads.thread_labels import following
from .attributes import replacing
from .context_watcher import watched_loop
from .loops import followed_create_task, followed_loop


def install(uvloop: Any) -> Callable[[], None]:
    """Follow the switches; return what puts the original methods back."""
    loop = uvloop.Loop
    with replacing() as replace:
        replace(loop, "run_forever", followed_loop(loop.run_forever))
        if sys.version_info >= (3, 12):
            replace(loop, "create_task", followed_create_task(loop.create_task))
        for name in ("call_soon", "call_soon_threadsafe"):
            replace(loop, name, _call_soon(getattr(loop, name)))
        for name in ("call_later", "call_at", "add_reader", "add_writer"):
            replace(loop, name, _second(getattr(loop, name)))
    return replace.undo


def install_watched(uvloop: Any) -> Callable[[], None]:
    """Do what is left to do beside `context_watcher`, which sees the native code as well."""
    with replacing() as replace:
        replace(uvloop.Loop, "run_forever", watched_loop(uvloop.Loop.run_forever))
    return replace.undo


def _call_soon(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def call_soon(self: Any, callback: Any, *args: Any, context: Any = None) -> Any:
        return original(self, following(callback), *args, context=context)

    return call_soon


def _second(original: Callable[..., Any]) -> Callable[..., Any]:
    """Return a method whose second argument is the callback: after a time, or a file."""

    @functools.wraps(original)
    def call(self: Any, first: Any, callback: Any, *args: Any, **kwargs: Any) -> Any:
        return original(self, first, following(callback), *args, **kwargs)

    return call
