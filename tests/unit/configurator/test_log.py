"""Our lines are seen before the application configures logging, and go where it says once it has."""

from __future__ import annotations

import contextlib
import io
import logging
import sys
import threading
from collections.abc import Iterator

import pytest
from otel_profiling_configurator import log

from .fakes import on_a_thread


@contextlib.contextmanager
def unconfigured() -> Iterator[None]:
    """The application has not configured logging: the root logger has no handler, not even the test runner's."""
    root = logging.getLogger()
    before, root.handlers[:] = root.handlers[:], []
    try:
        yield
    finally:
        root.handlers[:] = before


@unconfigured()
def test_application_without_logging(capsys: pytest.CaptureFixture[str]) -> None:
    """A line goes to standard error and says whose it is; nothing goes to standard output, which is the application's."""
    log.configure(logging.INFO)
    log.logger.info("profiling %r", "shop")
    log.logger.debug("not asked for")
    assert capsys.readouterr() == ("", "otel-profiling INFO: profiling 'shop'\n")


@unconfigured()
def test_application_with_logging(capsys: pytest.CaptureFixture[str]) -> None:
    """A line goes to the application's handler only, even if that came after ours."""
    log.configure(logging.INFO)
    stream = io.StringIO()
    logging.getLogger().addHandler(logging.StreamHandler(stream))
    log.logger.info("profiling")
    assert stream.getvalue() == "profiling\n"
    assert capsys.readouterr() == ("", "")


@unconfigured()
def test_application_with_nothing_but_opentelemetrys_handler(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A distro's handler exports records: nobody reads those where we are needed, so our lines are shown too."""

    class LoggingHandler(logging.NullHandler):
        pass

    monkeypatch.setattr(LoggingHandler, "__module__", "opentelemetry.sdk._logs")
    logging.getLogger().addHandler(LoggingHandler())
    log.configure(logging.INFO)
    log.logger.info("profiling")
    assert capsys.readouterr() == ("", "otel-profiling INFO: profiling\n")
    logging.getLogger().addHandler(logging.NullHandler())
    log.logger.info("profiling")
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(("level", "lines"), [(logging.DEBUG, 5), (logging.WARNING, 3), (logging.CRITICAL, 1)])
@unconfigured()
def test_level(level: int, lines: int, capsys: pytest.CaptureFixture[str]) -> None:
    """Lines below the level are dropped."""
    log.configure(level)
    for each in (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR, logging.CRITICAL):
        log.logger.log(each, "line")
    assert capsys.readouterr().err.count("line\n") == lines


@unconfigured()
def test_configured_twice(capsys: pytest.CaptureFixture[str]) -> None:
    """Only the level changes: each line is still written once."""
    log.configure(logging.DEBUG)
    log.configure(logging.WARNING)
    log.logger.info("dropped")
    log.logger.warning("kept")
    assert capsys.readouterr().err == "otel-profiling WARNING: kept\n"


@unconfigured()
def test_stream_replaced_after_start_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A line goes to what standard error is when it is written: the earlier stream may be closed."""
    earlier, later = io.StringIO(), io.StringIO()
    monkeypatch.setattr(sys, "stderr", earlier)
    log.configure(logging.INFO)
    log.logger.info("first")
    earlier.close()
    monkeypatch.setattr(sys, "stderr", later)
    log.logger.info("second")
    assert later.getvalue() == "otel-profiling INFO: second\n"


@unconfigured()
def test_no_standard_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process without one, such as a service under some supervisors, gets neither the line nor a handler's error."""
    errors: list[logging.LogRecord] = []
    monkeypatch.setattr(sys, "stderr", None)
    monkeypatch.setattr(logging.Handler, "handleError", lambda _handler, record: errors.append(record))
    log.configure(logging.INFO)
    log.logger.info("unseen")
    assert errors == []


def test_threads_of_the_application() -> None:
    """They stay on the list of `threading`, also the main one."""
    before = threading.enumerate()
    log.forget_thread()
    assert threading.enumerate() == before
    on_a_thread(log.forget_thread)
    assert threading.enumerate() == before
