"""Starts the agent of a forked child a little later, where its descriptors are beside the application's.

A daemon closes all descriptors right after it was forked. An agent that has opened none by then loses none, and nothing of its
ends up in the application's files. Where the agent has a table of its own (see `descriptors`) nothing has to wait.

Nothing here uses `threading` or `time.sleep`: after ``gevent.monkey.patch_all()`` they are a hub's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..guard import guarded
from ..log import forget_thread
from ..threads.os_threads import allocate_lock, start_thread
from . import signals

SECONDS = 1.0
"""How long a child has time to close what it inherited. One that lives shorter has no profile, but for `multiprocessing`'s."""

_SECONDS_FOR_A_START = 0.1
"""Longest that a fork waits for a start that has begun."""


class LateStart:
    """Calls `start` once in a forked child: after `SECONDS`, or as soon as it is known that the child is no daemon."""

    def __init__(self, start: Callable[[], None]) -> None:
        self._start = guarded("start the agent of a forked child")(start)
        self._turn: Any = None
        self._starting = allocate_lock()

    def begin(self) -> None:
        """Begin to wait: this process has just been forked."""
        self._starting = allocate_lock()
        self._turn = turn = allocate_lock()
        with signals.blocked():
            start_thread(self._wait, (turn,))

    def now(self) -> None:
        """Start at once where a start is due; elsewhere do nothing."""
        if self._turn is not None:
            self._take(self._turn)

    def before_fork(self) -> None:
        """Wait for a start that has begun, not for one that is due: the child has its own."""
        if self._starting.acquire(timeout=_SECONDS_FOR_A_START):
            self._starting.release()

    def _wait(self, turn: Any) -> None:
        pause = allocate_lock()
        pause.acquire()
        pause.acquire(timeout=SECONDS)
        self._take(turn)
        forget_thread()

    def _take(self, turn: Any) -> None:
        """Start, if nobody else has taken this turn."""
        if turn.acquire(blocking=False):
            with self._starting:
                self._start()
