"""Labels follow the switches between greenlets, those of gevent and eventlet among them, once greenlet has been imported.

Each greenlet has a context of its own, and `greenlet.settrace` tells of every switch. There is one tracer a thread: where the
application sets one of its own, ours calls it, and `gettrace` returns it (greenlet 1.0 to 3.x).
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any, Protocol

from ..guard import guarded
from .attributes import replacing

EXTENSION = "greenlet._greenlet"


class Tracing(Protocol):
    """Who sets our tracer, and keeps the application's: the native module, or `PythonTracing`."""

    def on_greenlets(self, callback: Callable[[Any], None] | None, /) -> None:
        """Call back with greenlet's extension module once that has been loaded; None for nothing."""

    def follow_greenlets(self, settrace: Callable[[Any], Any] | None, /) -> None:
        """Set our tracer by this function on the calling thread, and on others when they first have labels; None to end."""

    def exchange_tracer(self, tracer: Any, /) -> Any:
        """Have ours call this tracer on the calling thread, and return the one before; LookupError where ours is not set."""

    def application_tracer(self, tracer: Any, /) -> Any:
        """Return the application's tracer where `tracer`, the one that is set, is ours; else `tracer`."""


def install(tracing: Tracing) -> Callable[[], None]:
    """Follow the switches of all threads; return what ends that on the calling thread, and makes it futile on others."""
    undos: list[Callable[[], None]] = [lambda: tracing.on_greenlets(None)]

    @guarded("follow greenlets")
    def follow(extension: Any) -> None:
        undos.append(_follow(extension, tracing))

    if EXTENSION in sys.modules:
        follow(sys.modules[EXTENSION])
    else:
        tracing.on_greenlets(follow)

    def undo() -> None:
        while undos:
            undos.pop()()

    return undo


def _follow(extension: Any, tracing: Tracing) -> Callable[[], None]:
    settrace, gettrace = extension.settrace, extension.gettrace

    @functools.wraps(settrace)
    def settrace_of_application(tracer: Any, /) -> Any:
        try:
            return tracing.exchange_tracer(tracer)
        except LookupError:
            return settrace(tracer)

    @functools.wraps(gettrace)
    def gettrace_of_application() -> Any:
        return tracing.application_tracer(gettrace())

    with replacing() as replace:
        for module in (extension, sys.modules.get("greenlet")):
            if getattr(module, "settrace", None) is settrace:  # the package may be in the middle of its import
                replace(module, "settrace", settrace_of_application)
                replace(module, "gettrace", gettrace_of_application)
        tracing.follow_greenlets(settrace)

    def undo() -> None:
        tracing.follow_greenlets(None)
        replace.undo()
        package = sys.modules.get("greenlet")
        if getattr(package, "settrace", None) is settrace_of_application:  # it has imported ours by name
            package.settrace, package.gettrace = settrace, gettrace  # type: ignore[union-attr] # found above

    return undo
