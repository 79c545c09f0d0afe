"""Labels by thread: each thread has those that it was given last, and every one is removed by the exact pair."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from otel_profiling_configurator import guard
from otel_profiling_configurator.threads import by_thread
from otel_profiling_configurator.threads.by_thread import Pairs, label
from otel_profiling_configurator.threads.os_threads import Local, get_ident

from .fakes import Tags, on_a_thread

A: Pairs = (("trace_id", "t"), ("span_id", "a"), ("span_name", "GET /a"))
B: Pairs = (("trace_id", "t"), ("span_id", "b"), ("span_name", "GET /b"))


@pytest.fixture
def in_production(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "reraise", False)


def test_labels_that_come_and_go(writer: Tags) -> None:
    """The thread has them until others, or none, are given."""
    label(A)
    assert writer.current() == dict(A)
    label(())
    assert writer.current() == {}


def test_labels_after_others(writer: Tags) -> None:
    """Only what differs is removed and added."""
    label(A)
    writer.calls.clear()
    label(B)
    assert writer.current() == dict(B)
    assert [(call, key) for call, _, key, _ in writer.calls] == [
        ("remove", "span_id"),
        ("remove", "span_name"),
        ("add", "span_id"),
        ("add", "span_name"),
    ]
    label(())


def test_same_labels_again(writer: Tags) -> None:
    """The agent is not asked for anything."""
    label(A)
    writer.calls.clear()
    label((*A,))
    assert writer.calls == []
    label(())


def test_nobody_to_label_for() -> None:
    """Nothing happens before there is an agent."""
    label(A)
    tags = Tags()
    undo = by_thread.install(tags)
    label(())
    undo()
    assert tags.calls == []


def test_two_threads(writer: Tags) -> None:
    """Each has its own labels, and only the thread itself changes them."""
    label(A)

    def other() -> None:
        label(B)
        assert writer.current() == dict(B)
        label(())
        assert writer.current() == {}

    on_a_thread(other)
    assert writer.current() == dict(A)
    label(())


def test_thread_that_ends_with_labels(writer: Tags) -> None:
    """They are removed on that thread: nobody else could, and every sample would pay for them."""

    def work() -> int:
        label(A)
        label(B)
        return get_ident()

    ended = on_a_thread(work)
    assert writer.left() == []
    removed = {(key, value) for call, thread, key, value in writer.calls if call == "remove" and thread == ended}
    assert removed >= set(B)


def test_thread_that_ends_after_the_undo() -> None:
    """Its labels are removed even then: they stay until the thread ends, no longer."""
    tags = Tags()
    undo = by_thread.install(tags)
    labelled, undone = threading.Event(), threading.Event()

    def work() -> None:
        label(A)
        labelled.set()
        undone.wait(10)

    thread = threading.Thread(target=work)
    thread.start()
    assert labelled.wait(10)
    undo()
    undone.set()
    thread.join(10)
    assert tags.mistakes == []
    assert tags.left() == []


class Late:
    """What a thread-local holds of an application's; labels when the thread drops it."""

    def __init__(self, pairs: Pairs) -> None:
        self.pairs = pairs
        self.thread = get_ident()

    def __del__(self) -> None:
        if self.thread == get_ident():
            label(self.pairs)


@pytest.mark.parametrize("before", [A, ()], ids=["labelled before", "not labelled before"])
def test_label_by_a_destructor_at_the_end_of_a_thread(before: Pairs, writer: Tags) -> None:
    """Whichever destructor comes first, nothing is left for a later thread that gets the same id."""
    local, kept = Local(), Local()

    def work() -> None:
        kept.first = Late(B)
        label(before)
        local.later = Late(B)

    for _ in range(20):
        on_a_thread(work)
        assert writer.left() == []
        assert on_a_thread(writer.current) == {}


def test_id_that_is_used_again(writer: Tags) -> None:
    """A thread with the id of one that has ended is labelled as any other."""

    def work() -> int:
        label(A)
        assert writer.current() == dict(A)
        return get_ident()

    threads = [on_a_thread(work) for _ in range(50)]
    assert len(set(threads)) < len(threads), "no id was used again"
    assert writer.left() == []


@settings(derandomize=True, database=None, deadline=None, max_examples=200)
@given(st.lists(st.dictionaries(st.sampled_from("abcd"), st.text(max_size=2), max_size=4), max_size=20))
def test_any_sequence(steps: list[dict[str, str]]) -> None:
    """Whatever follows on what, each label that is added is removed exactly."""
    tags = Tags()
    undo = by_thread.install(tags)
    for labels in steps:
        label(tuple(labels.items()))
        assert tags.current() == labels
    undo()
    assert tags.mistakes == []
    assert tags.left() == []


def test_new_agent(writer: Tags) -> None:
    """It begins without labels: those of each thread are added anew when the thread is next labelled."""
    proceed, labelled = threading.Event(), threading.Event()

    def other() -> None:
        label(B)
        labelled.set()
        proceed.wait(10)
        label(B)
        seen.append(writer.current())

    seen: list[dict[str, str]] = []
    thread = threading.Thread(target=other)
    thread.start()
    assert labelled.wait(10)
    label(A)
    writer.clear()
    by_thread.forget()
    label(A)
    assert writer.current() == dict(A)
    proceed.set()
    thread.join(10)
    assert seen == [dict(B)]


def test_undo() -> None:
    """The labels of the calling thread are removed; afterwards none is added any more."""
    tags = Tags()
    undo = by_thread.install(tags)
    label(A)
    undo()
    assert tags.left() == []
    label(B)
    assert tags.left() == []
    assert tags.mistakes == []


class Broken(Tags):
    """An agent that raises when it is asked to do one thing."""

    def __init__(self, broken: str) -> None:
        super().__init__()
        self.broken = broken

    def add_thread_tag(self, key: str, value: str) -> None:
        if self.broken == "add":
            raise OSError("of the agent")
        super().add_thread_tag(key, value)

    def remove_thread_tag(self, key: str, value: str) -> None:
        if self.broken == "remove":
            raise OSError("of the agent")
        super().remove_thread_tag(key, value)


@pytest.mark.usefixtures("in_production")
@pytest.mark.parametrize("broken", ["add", "remove"])
def test_agent_that_raises(broken: str, warned: Callable[[], list[str]]) -> None:
    """The application never sees it, and one warning is enough."""
    undo = by_thread.install(Broken(broken))
    for pairs in (A, B, (), A, ()):
        label(pairs)
    undo()
    (warning,) = warned()
    assert "label a thread" in warning


@pytest.mark.usefixtures("in_production")
def test_agent_that_raises_when_a_thread_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread ends as it would have, and the application's standard error has no traceback of ours."""
    shown: list[Any] = []
    monkeypatch.setattr("sys.unraisablehook", lambda args: shown.append(args.exc_type))
    undo = by_thread.install(Broken("remove"))
    on_a_thread(lambda: label(A))
    undo()
    assert shown == []


@pytest.mark.usefixtures("in_production")
@pytest.mark.parametrize("error", [TimeoutError, KeyboardInterrupt])
@pytest.mark.parametrize("at", [1, 2, 3])
def test_exception_of_a_signal_handler(error: type[BaseException], at: int) -> None:
    """Goes to the application at whatever label it comes, and no part of the labels stays."""

    def handler(*_signal: object) -> None:
        raise error

    class Interrupted(Tags):
        def add_thread_tag(self, key: str, value: str) -> None:
            super().add_thread_tag(key, value)
            if len(self.left()) == at:
                signal.raise_signal(signal.SIGUSR1)

    tags = Interrupted()
    undo = by_thread.install(tags)
    before = signal.signal(signal.SIGUSR1, handler)
    try:
        with pytest.raises(error):
            label(A)
    finally:
        signal.signal(signal.SIGUSR1, before)
        undo()
    assert tags.left() == []
