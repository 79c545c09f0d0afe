"""What is written for the stand-ins of threads, without an agent: only the library of one, in which nothing runs."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from time import sleep, thread_time
from types import SimpleNamespace
from typing import Any

import pytest
from opentelemetry.context import Context
from otel_profiling_configurator import guard
from otel_profiling_configurator.spans.labels import KEYS
from otel_profiling_configurator.threads import thread_labels

from .fakes import context_with, on_a_thread, root_labels, skip_if_pure, written_out

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the agent's library is led there only")

NOTHING = Context()
SETS = 16
"""Labels that a thread has stand-ins for, as `_stand_ins.h` has it."""


class Written:
    """Every call, in order, and what is left of it all."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str, str]] = []
        self.of_thread: list[tuple[int, str, str]] = []
        """What the agent holds: by whom it is for, a thread or a stand-in."""
        self.fails_at = 0
        """How many calls from now one fails; 0 for none."""

    def add_thread_tag(self, key: str, value: str) -> None:
        self._fail()
        self.calls.append(("add", key, value))
        thread = thread_of_labels()
        assert key not in {k for t, k, _ in self.of_thread if t == thread}, f"{key} twice"
        self.of_thread.append((thread, key, value))

    def remove_thread_tag(self, key: str, value: str) -> None:
        self._fail()
        self.calls.append(("remove", key, value))
        label = thread_of_labels(), key, value
        if label in self.of_thread:
            self.of_thread.remove(label)

    @property
    def left(self) -> list[tuple[str, str]]:
        """The labels that it holds, whoever they are for."""
        return [(key, value) for _, key, value in self.of_thread]

    def _fail(self) -> None:
        self.fails_at -= 1
        if self.fails_at == 0:
            raise RuntimeError("the agent is not well")


def thread_of_labels() -> int:
    """Whom the agent takes a label to be for that is written now."""
    return thread_labels._in_c.thread_of_labels()


def pyroscope_library() -> Any:
    return pytest.importorskip("pyroscope").lib


@pytest.fixture
def library(request: pytest.FixtureRequest) -> Any:
    skip_if_pure(request)
    return pyroscope_library()


@pytest.fixture
def written(library: object) -> Iterator[Written]:
    """Labels are written here, for stand-ins; in the end none may be left."""
    writer = Written()
    undo = thread_labels.install(writer)
    thread_labels.forget()
    assert thread_labels.use_stand_ins(library)
    yield writer
    undo()
    assert writer.left == []


def context(number: int) -> tuple[Context, set[tuple[str, str]]]:
    """A context, and the labels of its span."""
    labels = root_labels(f"span {number}", 0xA0 + number)
    return context_with(labels), set(written_out(labels).items())


def carry(context: Context) -> None:
    thread_labels.carry(context)


def work(seconds: float) -> None:
    """Use CPU time."""
    end = thread_time() + seconds
    while thread_time() < end:
        pass


def test_used_and_left(library: object) -> None:
    """It is done once, undone once, and can be done again."""
    for _ in range(2):
        assert thread_labels.use_stand_ins(library)
        assert thread_labels.use_stand_ins(library)
        assert thread_labels.leave_stand_ins()
        assert not thread_labels.leave_stand_ins()


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize("agent", [math, sys, object(), None], ids=["another library", "no file", "no module", "nothing"])
def test_nothing_to_lead(agent: object) -> None:
    """What is not the agent's library, or has other needs of the system, is left alone."""
    assert not thread_labels.use_stand_ins(agent)
    assert not thread_labels.leave_stand_ins()


def test_not_with_baggage(library: object) -> None:
    """Labels of baggage are written by thread."""
    undo = thread_labels.install(Written(), {"tenant": "tenant"})
    assert not thread_labels.use_stand_ins(library)
    undo()


def test_not_in_python(library: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the module in C, neither is this."""
    monkeypatch.setattr(thread_labels, "carry", thread_labels.carry_in_python)
    assert not thread_labels.use_stand_ins(library)


def test_labels_once_written(written: Written) -> None:
    """A thread that returns to a span has nothing to write, and nothing is taken off where it goes."""
    (first, of_first), (second, of_second) = context(1), context(2)
    for _ in range(3):
        for one in (first, second, NOTHING):
            carry(one)
    assert {(key, value) for call, key, value in written.calls if call == "add"} == of_first | of_second
    assert [call for call, _, _ in written.calls] == ["add"] * 2 * len(KEYS)


def test_more_spans_than_stand_ins(written: Written) -> None:
    """The span that was labelled longest ago and not come back to gives way; only what differs is written."""
    contexts = [context(number) for number in range(SETS + 1)]
    for one, _ in contexts:
        carry(one)
    kept = set().union(*(labels for _, labels in contexts[1:]))
    assert set(written.left) == kept
    assert len(written.left) == SETS * len(KEYS)
    written.calls.clear()
    carry(contexts[1][0])
    assert written.calls == []
    carry(contexts[0][0])
    assert {call[1] for call in written.calls} == {"span_id", "span_name"}  # all are of one trace
    assert contexts[0][1] <= set(written.left)


def test_span_that_stays(written: Written) -> None:
    """The labels that a thread has right now never give way: a sample of them may be taken."""
    stays, labels = context(0)
    carry(stays)
    for number in range(1, 3 * SETS):
        carry(context(number)[0])
        carry(stays)
        assert labels <= set(written.left)
    carry(NOTHING)


def test_end_of_a_thread(written: Written) -> None:
    """Everything that was written for a thread is taken off when it ends, and another thread starts with nothing."""

    def work() -> None:
        for number in range(3):
            carry(context(number)[0])
        assert len(written.left) == 3 * len(KEYS)

    for _ in range(3):
        on_a_thread(work)
        assert written.left == []


def test_by_thread_again(written: Written) -> None:
    """When stand-ins are left everything is taken off, also of other threads, and labels are written by thread."""
    here, labels = context(1)
    carry(here)

    def work() -> None:
        carry(context(2)[0])
        assert thread_labels.leave_stand_ins()
        assert written.left == []

    on_a_thread(work)
    carry(here)
    assert set(written.left) == labels
    carry(NOTHING)
    assert written.left == []


def test_use(written: Written) -> None:
    """Labels that a thread returns to now and then stay, whatever else comes and goes."""
    stays, labels = context(0)
    for number in range(1, 5 * SETS):
        if number % (SETS // 2) == 1:
            carry(stays)
        carry(context(number)[0])
        assert labels <= set(written.left)


def test_labels_by_thread_before(library: object) -> None:
    """What a thread carries by itself when stand-ins begin is taken off with its next labels."""
    writer = Written()
    undo = thread_labels.install(writer)
    thread_labels.forget()
    (before, by_thread), (after, of_stand_in) = context(1), context(2)
    carry(before)
    assert thread_labels.use_stand_ins(library)
    assert set(writer.left) == by_thread
    carry(after)
    assert set(writer.left) == of_stand_in
    undo()
    assert writer.left == []


def test_no_sample_seen(library: object) -> None:
    """If threads work with labels and no sample asks for them, they are given to the threads; it is said once."""
    writer = Written()
    undo = thread_labels.install(writer)
    thread_labels.forget()
    ends: list[set[tuple[str, str]]] = []
    assert thread_labels.use_stand_ins(library, 0.02, lambda: ends.append(set(writer.left)))
    first, of_first = context(1)
    carry(first)
    work(0.03)
    carry(NOTHING)
    assert ends == [set()]
    assert writer.left == []
    carry(first)
    assert set(writer.left) == of_first
    second, of_second = context(2)
    carry(second)
    assert set(writer.left) == of_second
    assert len(ends) == 1
    undo()
    assert writer.left == []


@pytest.mark.usefixtures("written")
def test_no_sample_to_be_seen(library: object) -> None:
    """Work without labels does not count, however long; nor does waiting."""
    ends: list[None] = []
    assert thread_labels.use_stand_ins(library, 0.02, lambda: ends.append(None))
    for number in range(3):
        work(0.03)
        carry(context(number)[0])
        sleep(0.03)
        carry(NOTHING)
    assert ends == []


def test_record_that_ends_late(written: Written) -> None:
    """What a thread had before another agent began takes nothing of the present along when it ends."""
    former = thread_labels._of_thread.written
    thread_labels.forget()
    here, labels = context(1)
    carry(here)
    del former
    assert set(written.left) == labels


def test_another_agent(written: Written) -> None:
    """An agent that begins has no labels: they are written once more."""
    here, labels = context(1)
    carry(here)
    written.of_thread.clear()
    thread_labels.forget()
    carry(here)
    assert set(written.left) == labels


@pytest.mark.parametrize("fails_at", range(1, 2 * len(KEYS)))
def test_writer_that_fails(written: Written, fails_at: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A label that can't be written leaves nothing behind of its span, and the next span is labelled again."""
    monkeypatch.setattr(guard, "reraise", False)
    for number in range(SETS):
        carry(context(number)[0])
    failing, labels = context(SETS)
    written.fails_at = fails_at
    carry(failing)
    if fails_at <= 4:  # two labels are taken off and two are written
        assert not {value for key, value in written.left} & {value for key, value in labels if key != "trace_id"}
    after, labels = context(SETS + 1)
    written.fails_at = 0
    carry(after)
    assert labels <= set(written.left)


def test_writer_interrupted(written: Written) -> None:
    """What a signal handler raises while labels are written reaches the application."""

    def interrupted(_key: str, _value: str) -> None:
        raise KeyboardInterrupt

    writer = SimpleNamespace(add_thread_tag=interrupted, remove_thread_tag=written.remove_thread_tag)
    undo = thread_labels.install(writer)
    assert thread_labels.use_stand_ins(pyroscope_library())
    with pytest.raises(KeyboardInterrupt):
        carry(context(1)[0])
    undo()
