"""Labels by thread, at once: what is done where samples can't be given aliases.

The agent keeps labels by OS thread, and only the thread itself can change its own. A label is removed by the exact pair it was
added with, and every sample pays for every label left behind: so what a thread carries is remembered, and removed when it ends.
A sample gets the labels that its thread has when it is recorded, some 0.2 ms after its stack was read.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any, Protocol

from ..guard import report
from .os_threads import Local, get_ident, get_native_id

Pairs = tuple[tuple[str, str], ...]
"""Labels as (name, value) pairs, no name twice."""


class TagWriter(Protocol):
    """What writes labels on the calling thread: the agent, or a fake in tests."""

    def add_thread_tag(self, key: str, value: str, /) -> Any:
        """Add a label to the calling thread."""

    def remove_thread_tag(self, key: str, value: str, /) -> Any:
        """Remove a label, given exactly as it was added, from the calling thread."""


_writer: TagWriter | None = None

_agent = 0
"""How many agents have begun: what a thread carried for a former one is gone."""

_ended: dict[int, int] = {}
"""Threads that have removed their labels for good, by their ids; the kernel's ids tell whether an id is used again."""


class _Labelled:
    """What one thread carries. Dies with the thread, on the thread, and removes it."""

    __slots__ = ("agent", "pairs", "thread", "writer")

    def __init__(self) -> None:
        self.pairs: Pairs = ()
        self.writer = _writer
        self.agent = _agent
        self.thread = get_ident()

    def __del__(self) -> None:
        # In a forked child the records of threads that don't exist there die on the thread that forked.
        if self.agent == _agent and self.thread == get_ident():
            _remove(self.pairs, self.writer)
            _ended[self.thread] = get_native_id()  # destructors that come later find nothing to be labelled


class _OfThread(Local):  # type: ignore[misc] # a class found at run time
    """Thread-local: each OS thread finds its own record, made at its first look."""

    def __init__(self) -> None:
        self.labelled = _Labelled()


_of_thread = _OfThread()


def label(pairs: Pairs) -> None:
    """Have the calling thread carry these labels, and no others of ours.

    Raises:
        BaseException: What a signal handler of the application's has raised meanwhile; failures of ours are reported.
    """
    if _writer is None or (_ended and _has_ended()):
        return
    labelled = _of_thread.labelled
    old = labelled.pairs
    if old == pairs:
        return
    labelled.pairs, labelled.writer = pairs, _writer
    try:
        for key, value in old:
            if (key, value) not in pairs:
                _writer.remove_thread_tag(key, value)
        for key, value in pairs:
            if (key, value) not in old:
                _writer.add_thread_tag(key, value)
    except BaseException as error:  # noqa: BLE001 - raised again where it is not ours
        labelled.pairs = ()
        _remove(old + pairs, _writer)
        try:
            raise error
        except Exception:  # noqa: BLE001 - called from inside the application's attach and detach
            report("label a thread")


def _has_ended() -> bool:
    """Whether the calling thread has removed its labels for good; a new thread may have its id."""
    thread = get_ident()
    ended = _ended.get(thread)
    if ended is None or ended == get_native_id():
        return ended is not None
    del _ended[thread]
    return False


def _remove(pairs: Pairs, writer: TagWriter | None) -> None:
    """Remove labels from the calling thread; those that are not there do no harm."""
    for key, value in pairs:
        with contextlib.suppress(Exception):  # nothing can be raised to anybody by a thread that is about to end
            if writer is not None:
                writer.remove_thread_tag(key, value)


def forget() -> None:
    """Forget what all threads carry: a new agent has started, and it begins without labels."""
    global _agent, _of_thread  # noqa: PLW0603 - replaced as a whole: no thread can reach another one's record
    _agent += 1
    _of_thread = _OfThread()


def install(writer: TagWriter) -> Callable[[], None]:
    """Write labels through `writer` from now on; return what ends that and removes those of the calling thread.

    Labels of other threads stay until those threads end: only they could remove them.
    """
    global _writer  # noqa: PLW0603 - the agent is the process's
    _writer = writer

    def undo() -> None:
        global _writer  # noqa: PLW0603 - as above
        label(())
        _writer = None

    return undo
