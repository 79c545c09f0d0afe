"""Labels follow the switches between greenlets: those of gevent, and greenlets themselves.

Each greenlet has a context of its own, and `greenlet.settrace` tells of every switch. It is a setting of each OS thread, so it
is made wherever a thread first attaches a context, and there is one tracer only: one that the application sets is called by
ours, and gets what it would get without us (greenlet 1.0 to 3.x).

gevent switches to its hub and from there to the next greenlet. The labels stay while the hub runs, as with other loops.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from ..threads.os_threads import Local
from ..threads.thread_labels import on_each_thread, refresh
from .attributes import replacing

Tracer = Callable[[str, tuple[Any, Any]], Any]


class _OfThread(Local):  # type: ignore[misc] # a class found at run time
    """The tracer that the application has set on this OS thread."""

    def __init__(self) -> None:
        self.tracer: Tracer | None = None


def install(greenlet: Any) -> Callable[[], None]:
    """Follow the switches of all threads; return what ends that on the calling thread, and makes it futile on others."""
    settrace, gettrace = greenlet.settrace, greenlet.gettrace
    of_thread = _OfThread()
    active = True

    def trace(event: str, args: tuple[Any, Any]) -> None:
        if of_thread.tracer is not None:
            of_thread.tracer(event, args)  # if it raises, greenlet drops us both, as it would have dropped it
        if active and type(args[1]).__name__ != "Hub":
            refresh()

    def follow_thread() -> None:
        if active and gettrace() is not trace:
            of_thread.tracer = settrace(trace)

    @functools.wraps(settrace)
    def settrace_of_application(tracer: Tracer | None) -> Tracer | None:
        if gettrace() is not trace:
            previous_tracer: Tracer | None = settrace(tracer)
            return previous_tracer
        previous, of_thread.tracer = of_thread.tracer, tracer
        return previous

    @functools.wraps(gettrace)
    def gettrace_of_application() -> Tracer | None:
        current: Tracer | None = gettrace()
        return of_thread.tracer if current is trace else current

    with replacing() as replace:
        replace(greenlet, "settrace", settrace_of_application)
        replace(greenlet, "gettrace", gettrace_of_application)
    stop_following_threads = on_each_thread(follow_thread)

    def undo() -> None:
        nonlocal active
        active = False
        stop_following_threads()
        replace.undo()
        if gettrace() is trace:
            settrace(of_thread.tracer)

    return undo


install_watched = install
"""greenlet exchanges the context of a thread behind the interpreter's back."""
