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


class _Labelled:
    """What one thread carries."""

    __slots__ = ("agent", "ended", "pairs", "thread", "writer")

    def __init__(self, thread: int) -> None:
        self.pairs: Pairs = ()
        self.writer = _writer
        self.agent = _agent
        self.thread = thread
        self.ended = 0
        """The kernel's id of the thread once it has removed its labels for good; its own id may be used again."""


class _AtEnd:
    """Dies with a thread, on the thread, and removes its labels."""

    __slots__ = ("labelled",)

    def __init__(self, labelled: _Labelled) -> None:
        self.labelled = labelled

    def __del__(self) -> None:
        labelled = self.labelled
        # In a forked child those of threads that don't exist there die on the thread that forked.
        if labelled.agent == _agent and labelled.thread == get_ident():
            _remove(labelled.pairs, labelled.writer)
            labelled.pairs = ()
            labelled.ended = get_native_id()  # destructors that come later find nothing to be labelled


_of_threads: dict[int, _Labelled] = {}
"""What each thread carries, by its id. Not thread-local: what a destructor makes there while that is cleared stays for ever."""

_at_end = Local()
"""Has an `_AtEnd` on each thread of `_of_threads`."""


def _begin() -> _Labelled | None:
    """Return what the calling thread carries from now on; None for one that has removed its labels for good."""
    thread = get_ident()
    former = _of_threads.get(thread)
    if former is not None and former.ended == get_native_id():
        return None
    labelled = _of_threads[thread] = _Labelled(thread)
    _at_end.labelled = _AtEnd(labelled)
    return labelled


def label(pairs: Pairs) -> None:
    """Have the calling thread carry these labels, and no others of ours.

    Raises:
        BaseException: What a signal handler of the application's has raised meanwhile; failures of ours are reported.
    """
    if _writer is None:
        return
    labelled = _of_threads.get(get_ident())
    if labelled is None or labelled.ended:
        labelled = _begin()
        if labelled is None:
            return
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


def _remove(pairs: Pairs, writer: TagWriter | None) -> None:
    """Remove labels from the calling thread; those that are not there do no harm."""
    for key, value in pairs:
        with contextlib.suppress(Exception):  # nothing can be raised to anybody by a thread that is about to end
            if writer is not None:
                writer.remove_thread_tag(key, value)


def forget() -> None:
    """Forget what all threads carry: a new agent has started, and it begins without labels."""
    global _agent, _of_threads  # noqa: PLW0603 - the agent is the process's
    _agent += 1
    _of_threads = {}


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
