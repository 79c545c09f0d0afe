"""Signals are the application's."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator

import pytest
from otel_profiling_configurator.agent import signals

ALL = signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}


def mask() -> set[int]:
    return set(signal.pthread_sigmask(signal.SIG_BLOCK, ()))


@pytest.fixture
def handled() -> Iterator[list[int]]:
    """Signals of one kind that were handled here."""
    handled: list[int] = []
    before = signal.signal(signal.SIGUSR1, lambda number, _frame: handled.append(number))
    yield handled
    signal.signal(signal.SIGUSR1, before)


def test_threads_that_are_started() -> None:
    """They block all signals; the thread that starts them does so meanwhile only."""
    before = mask()
    seen: list[set[int]] = []
    with signals.blocked():
        thread = threading.Thread(target=lambda: seen.append(mask()))
        thread.start()
    thread.join(10)
    assert seen[0] >= ALL
    assert mask() == before


def test_signal_that_comes_meanwhile(handled: list[int]) -> None:
    """It is handled afterwards."""
    with signals.blocked():
        signal.pthread_kill(threading.get_ident(), signal.SIGUSR1)  # another thread of the test runner may take it else
        assert handled == []
    assert handled == [signal.SIGUSR1]


def test_handler_that_raises(handled: list[int]) -> None:
    """What it raises goes on, and no signal stays blocked."""

    class TimeIsUp(Exception):  # noqa: N818 - a time limit of an application's
        pass

    def time_is_up(*_: object) -> None:
        raise TimeIsUp

    before = mask()
    signal.signal(signal.SIGUSR1, time_is_up)
    with pytest.raises(TimeIsUp), signals.blocked():
        os.kill(os.getpid(), signal.SIGUSR1)
    assert mask() == before
    assert handled == []
