"""Failures of ours: kept from the application, said once, seen by tests."""

from __future__ import annotations

import functools
import logging
import signal
from collections.abc import Callable
from typing import Any

import pytest
from otel_profiling_configurator import guard


@pytest.fixture
def in_production(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "reraise", False)


def fail(*_: object) -> None:
    raise LookupError("of ours")


@pytest.mark.usefixtures("in_production")
def test_failing_function(caplog: pytest.LogCaptureFixture) -> None:
    """The caller gets None; one warning says what failed, what that means, and has the traceback."""
    assert guard.guarded("do it")(fail)() is None
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "failed to do it" in record.getMessage()
    assert "traces go on" in record.getMessage()
    assert record.exc_info
    assert record.exc_info[0] is LookupError


@pytest.mark.usefixtures("in_production")
def test_failing_again(warned: Callable[[], list[str]]) -> None:
    """A place that fails a thousand times a second is reported once, another place once more."""
    for _ in range(3):
        guard.guarded("do it")(fail)()
        guard.guarded("do something else")(fail)()
    assert len(warned()) == 2


@pytest.mark.usefixtures("in_production")
@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_not_a_failure(error: type[BaseException]) -> None:
    """What is meant to end the application ends it."""

    @guard.guarded("do it")
    def interrupted() -> None:
        raise error

    with pytest.raises(error):
        interrupted()


def test_succeeding_function(warned: Callable[[], list[str]]) -> None:
    """Arguments and result pass through, and it still looks like itself."""

    @guard.guarded("do it")
    def divide(a: float, *, by: float) -> float:
        """Divide."""
        return a / by

    assert divide(6, by=3) == 2
    assert (divide.__name__, divide.__doc__) == ("divide", "Divide.")
    assert warned() == []


def test_failing_under_test(warned: Callable[[], list[str]]) -> None:
    """Tests see the exception itself."""
    with pytest.raises(LookupError, match="of ours"):
        guard.guarded("do it")(fail)()
    assert warned() == []


class Handler:
    """What an application may install as a signal handler."""

    def method(self, *_signal: object) -> None:
        raise TimeoutError("of the application")

    def __call__(self, *_signal: object) -> None:
        raise TimeoutError("of the application")


@pytest.mark.usefixtures("in_production")
@pytest.mark.parametrize(
    "handler",
    [
        lambda *_: Handler().method(),
        Handler().method,
        Handler(),
        functools.partial(functools.partial(Handler.method), Handler()),
    ],
    ids=["function", "method", "object", "partial"],
)
def test_exception_of_a_signal_handler(handler: Any, warned: Callable[[], list[str]]) -> None:
    """Is none of ours, wherever it comes up: a time limit ends what it was to end."""

    @guard.guarded("do it")
    def interrupted() -> None:
        signal.raise_signal(signal.SIGUSR1)

    before = signal.signal(signal.SIGUSR1, handler)
    try:
        with pytest.raises(TimeoutError, match="of the application"):
            interrupted()
        assert guard.guarded("do it")(fail)() is None, "with a handler that has nothing to do with it"
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert len(warned()) == 1
