"""The agent of a forked child, where it has to wait until the application has closed what it inherited."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from otel_profiling_configurator import guard
from otel_profiling_configurator.agent import late_start
from otel_profiling_configurator.agent.late_start import LateStart


class Starts:
    """Counts them."""

    def __init__(self) -> None:
        self.count = 0
        self.happened = threading.Event()

    def __call__(self) -> None:
        self.count += 1
        self.happened.set()


@pytest.fixture
def starts() -> Starts:
    return Starts()


def test_child_that_lives_on(starts: Starts, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is started after a while, once, without being asked."""
    monkeypatch.setattr(late_start, "SECONDS", 0.01)
    late = LateStart(starts)
    late.begin()
    assert starts.happened.wait(10)
    late.now()
    assert starts.count == 1


def test_child_of_multiprocessing(starts: Starts) -> None:
    """It is started as soon as the child is known to be one, once; nothing was started before."""
    late = LateStart(starts)
    late.begin()
    assert starts.count == 0
    late.now()
    late.now()
    assert starts.count == 1


def test_process_that_was_not_forked(starts: Starts) -> None:
    """Nothing is due."""
    late = LateStart(starts)
    late.now()
    late.before_fork()
    assert starts.count == 0


def test_child_of_a_child(starts: Starts) -> None:
    """Each fork has a start of its own: the usual double fork of a daemon has one, in the daemon."""
    late = LateStart(starts)
    late.begin()
    late.before_fork()
    late.begin()  # the thread that waited for the first is not there in a child's child
    late.now()
    assert starts.count == 1


def test_fork_while_the_agent_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    """It waits for the end of the start, but not for long."""
    go_on, begun, events = threading.Event(), threading.Event(), []

    def start() -> None:
        begun.set()
        go_on.wait(10)
        events.append("started")

    late = LateStart(start)
    late.begin()
    thread = threading.Thread(target=late.now)
    thread.start()
    assert begun.wait(10)
    late.before_fork()
    events.append("forked in the middle")
    monkeypatch.setattr(late_start, "_SECONDS_FOR_A_START", 10)
    go_on.set()
    late.before_fork()
    events.append("forked")
    thread.join(10)
    assert events == ["forked in the middle", "started", "forked"]


def test_start_that_fails(monkeypatch: pytest.MonkeyPatch, warned: Callable[[], list[str]]) -> None:
    """One warning, and the application goes on."""
    monkeypatch.setattr(guard, "reraise", False)

    def fail() -> None:
        raise OSError("no thread")

    late = LateStart(fail)
    late.begin()
    late.now()
    assert len(warned()) == 1
