"""Says once when profiles begin to be lost, once when they arrive again, and starts an agent again whose sampler has stopped.

The agent itself writes a line with every upload that fails, or that its threads panicked. Those words are caught where they
are written, read here once an upload interval and once when the agent has ended, and become a warning of ours. The server is
asked nothing. Of several processes that were forked from one, as a server's workers are, one says it for all.

Nothing here uses `threading`: after ``gevent.monkey.patch_all()`` it is a hub's. Nothing is imported on the thread either: a
fork in the middle of an import leaves a child in which that import never ends.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from typing import Any

from ..guard import report
from ..log import forget_thread, logger
from ..threads.os_threads import allocate_lock, get_ident, start_thread
from . import signals, words

CALM = 3
"""Upload intervals without a failure, after which profiles arrive again."""

RESTART_SECONDS = 60.0
"""Shortest time between two starts of an agent whose sampler stops again and again."""

_SECONDS_FOR_A_LINE = 0.1
"""Longest that a fork waits for a slow log handler."""


class ServerWatch:
    """Listens to the agent and logs what the user must know.

    Args:
        server: The server's address, as it may be shown.
        upload_interval: Seconds between uploads.
        take_words: Returns what the agent's library has said since the last call; empty for nothing.
        restart: Starts the agent again, and returns whether it runs.
        check: Looks whether all else is as it should be.
    """

    def __init__(
        self,
        server: str,
        upload_interval: float,
        take_words: Callable[[], bytes],
        restart: Callable[[], bool],
        check: Callable[[], None],
    ) -> None:
        self._interval = upload_interval
        self._take_words = take_words
        self._restart = restart
        self._check = check
        self._losses = Losses(server, CALM * upload_interval)
        self._process = os.getpid()
        self._thread = 0
        self._restarted = -RESTART_SECONDS
        self._is_ours = True
        self._stopped_at = ""
        self._unfinished = b""
        self._speaking = allocate_lock()
        self._held_for_fork = False
        self._end: Any = None

    def start(self) -> None:
        """Start watching; where it was started before, anew: a forked child lacks its parent's thread and has its own agent."""
        self.stop()
        self._speaking = allocate_lock()
        self._held_for_fork = False
        self._is_ours = True
        self._stopped_at, self._unfinished = "", b""
        self._end = end = allocate_lock()
        end.acquire()
        with signals.blocked():
            start_thread(self._watch, (end,))

    def stop(self) -> None:
        """End it soon, waiting for nothing."""
        end, self._end = self._end, None
        if end is not None:
            end.release()

    def forget_agent(self) -> None:
        """Say nothing more of where it sends: another one has taken its place, the application's own."""
        self._is_ours = False
        self._stopped_at, self._unfinished = "", b""

    def state(self) -> str:
        """Say whether profiles arrive, as far as is known."""
        return self._losses.state()

    def before_fork(self) -> None:
        """Wait until no line of ours is being written, and let none begin: the child would inherit a handler's lock.

        A handler that takes long is not waited for: that is the application's own.
        """
        if self._speaking.acquire(timeout=_SECONDS_FOR_A_LINE):
            self._held_for_fork = True

    def after_fork_in_parent(self) -> None:
        """Let lines be written again."""
        held, self._held_for_fork = self._held_for_fork, False
        if held:
            self._speaking.release()

    def look(self, now: float) -> None:
        """Read what the agent has said until `now`, a time of the monotonic clock, and do what is to be done about it."""
        if not self._is_ours:
            return
        *lines, self._unfinished = (self._unfinished + self._take_words()).split(b"\n")
        said = words.read(lines)
        line = self._losses.after(said.failures, now)
        if line:
            self._say(line)
        if said.panics:
            self._stopped_at = said.panics[0]
        if self._stopped_at and now - self._restarted >= RESTART_SECONDS:
            stopped_at, self._stopped_at, self._restarted = self._stopped_at, "", now
            outcome = (
                "was started again; what ran meanwhile is in no profile"
                if self._restart()
                else "can't be started again; nothing more of this process is profiled until it is renewed"
            )
            self._say(
                f"the agent had stopped sampling (it panicked at {stopped_at}) and {outcome}. If this comes again, tell the "
                "authors of pyroscope-io; OTEL_PROFILING_ENABLED=false does without it."
            )

    def hear_last_words(self) -> None:
        """Read what the agent has said as it ended: in a process that lives shorter than an upload interval that is all.

        Of a worker it is a warning: its server goes on, and the next worker loses its profile as well. Where everything ends, a
        command's standard error stays the command's, and it is said to those who ask for more.
        """
        if get_ident() == self._thread:
            return  # the agent is started again: what goes on to fail will be said
        said = words.read((self._unfinished + self._take_words()).split(b"\n"))
        self._unfinished = b""
        level = logging.INFO if os.getpid() == self._process else logging.WARNING
        for reason in said.ends:
            self._say(f"the agent's sampler ended early, and what ran afterwards is in no profile: {reason}", level)
        line = self._losses.after(said.failures, time.monotonic(), is_last=True, is_heard=level >= logging.WARNING)
        if line:
            self._say(line, level)

    def _watch(self, end: Any) -> None:
        self._thread = get_ident()
        while not end.acquire(timeout=self._interval):
            try:
                self.look(time.monotonic())
                self._check()
            except Exception:  # noqa: BLE001 - nobody waits for this thread
                try:
                    report("listen to the agent")
                except Exception:  # noqa: BLE001 - in tests of ours, or the interpreter is going away
                    return
            finally:
                forget_thread()

    def _say(self, line: str, level: int = logging.WARNING) -> None:
        with self._speaking:
            logger.log(level, "%s", line)


class Losses:
    """Turns failures of uploads into a line when they begin, and one when they have ended.

    Args:
        server: The server's address, as it may be shown.
        calm_seconds: How long no upload may fail before profiles are said to arrive again.
    """

    def __init__(self, server: str, calm_seconds: float) -> None:
        self._server = server
        self._calm_seconds = calm_seconds
        from .tally import Tally  # noqa: PLC0415 - ctypes takes milliseconds, and only processes with an agent need it

        self._tally = Tally()

    def state(self) -> str:
        """Say whether uploads fail."""
        lost = self._tally.count()
        return f"{lost} failed since they began to fail" if lost else "none is known to have failed lately"

    def after(self, failures: list[words.Failure], now: float, *, is_last: bool = False, is_heard: bool = True) -> str:
        """Return what is to be said now that these uploads have failed since the last call; empty for nothing.

        Args:
            failures: In their order.
            now: A time of the monotonic clock.
            is_last: Whether this process ends.
            is_heard: Whether everybody sees the line; else another process may say it once more, a daemon whose parent ends.
        """
        if failures:
            is_first = self._tally.add(len(failures), now) if is_heard else self._tally.count() == 0
            return self._beginning(failures[0], is_last) if is_first else ""
        losses = None if is_last else self._tally.end(now - self._calm_seconds)
        if losses is None:
            return ""
        uploads = "1 upload was" if losses.uploads == 1 else f"{losses.uploads} uploads were"
        return f"profiles reach {self._server} again; {uploads} lost in {losses.latest - losses.began:.0f} s"

    def _beginning(self, failure: words.Failure, is_last: bool) -> str:
        reason, remedy = failure
        consequence = (
            "The last profile of this process is lost, its traces are not."
            if is_last
            else "The application and its traces go on, profiles are lost meanwhile; a line will say when they arrive again."
        )
        return f"profiles don't reach {self._server}: {reason}. {remedy} {consequence}"
