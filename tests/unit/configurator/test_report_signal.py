"""The report at a signal: it comes, it chains, it waits for nobody, and it stays away where it would do harm."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from types import FrameType

import pytest
from otel_profiling_configurator import report_signal

NUMBER = signal.SIGUSR1


@pytest.fixture(autouse=True)
def former() -> Iterator[None]:
    before = signal.getsignal(NUMBER)
    yield
    signal.signal(NUMBER, before)


def test_report_and_former_handler(capfd: pytest.CaptureFixture[str]) -> None:
    """The report goes to descriptor 2, then the handler that was there before is called; the undo puts it back."""
    called = []

    def handler(number: int, _frame: FrameType | None) -> None:
        called.append(number)

    signal.signal(NUMBER, handler)
    undo = report_signal.install(NUMBER, lambda: "one\ntwo")
    signal.raise_signal(NUMBER)
    assert capfd.readouterr().err == "otel-profiling: one\notel-profiling: two\n"
    assert called == [NUMBER]
    undo()
    assert signal.getsignal(NUMBER) is handler


def test_handler_of_the_application_afterwards() -> None:
    """It is the application's: the undo leaves it alone."""
    undo = report_signal.install(NUMBER, str)
    signal.signal(NUMBER, later := lambda *_: None)
    undo()
    assert signal.getsignal(NUMBER) is later


def test_report_that_fails(capfd: pytest.CaptureFixture[str]) -> None:
    """It costs a line, not the application."""
    report_signal.install(NUMBER, lambda: str(1 / 0))
    signal.raise_signal(NUMBER)
    assert capfd.readouterr().err == "otel-profiling: no report: ZeroDivisionError\n"


def test_ignored_signal(caplog: pytest.LogCaptureFixture) -> None:
    """Stays ignored, also in what the process starts; a warning says so."""
    signal.signal(NUMBER, signal.SIG_IGN)
    report_signal.install(NUMBER, str)
    assert signal.getsignal(NUMBER) is signal.SIG_IGN
    assert "Choose another one" in caplog.text


def test_other_thread(caplog: pytest.LogCaptureFixture) -> None:
    """Python lets only the main thread handle signals: one warning."""
    thread = threading.Thread(target=report_signal.install, args=(NUMBER, str))
    thread.start()
    thread.join()
    assert "otel-profiling doctor --pid" in caplog.text


def test_reader_that_does_not_read() -> None:
    """A full pipe holds nobody up: the report is left out."""
    code = f"""
import fcntl, os, signal
from otel_profiling_configurator import report_signal
reading, writing = os.pipe()
fcntl.fcntl(writing, fcntl.F_SETFL, os.O_NONBLOCK)
try:
    while True:
        os.write(writing, b"x" * 4096)
except BlockingIOError:
    pass
fcntl.fcntl(writing, fcntl.F_SETFL, 0)
os.dup2(writing, 2)
report_signal.install({int(NUMBER)}, lambda: "report")
signal.raise_signal({int(NUMBER)})
print("went on")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=30, env=os.environ)
    assert done.stdout == "went on\n"


def test_none() -> None:
    """Without the setting no handler is touched."""
    before = signal.getsignal(NUMBER)
    report_signal.install(None, str)()
    assert signal.getsignal(NUMBER) is before
