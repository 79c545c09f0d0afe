"""Has a running process report on itself when it gets a signal that the user chose, so that nobody has to restart it to ask.

The report goes to descriptor 2 with one `os.write`: whatever lock of a stream or of `logging` the interrupted code holds, it
is not needed. A reader who does not read is not waited for. Whoever handled the signal before us is called after it.

As with each of Python's handlers, a system call that waits is interrupted, and Python begins it anew (PEP 475). Without that a
main thread that waits for ever would never report.
"""

from __future__ import annotations

import os
import select
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

from .log import logger

_STANDARD_ERROR = 2


def install(number: int | None, report: Callable[[], str]) -> Callable[[], None]:
    """Report at this signal from now on; return what ends that. Does nothing, after a warning, where that would do harm.

    Args:
        number: The signal; None for none.
        report: Returns the report. Called on the main thread, in the middle of anything.
    """
    if number is None:
        return _nothing
    name = signal.Signals(number).name
    if threading.current_thread() is not threading.main_thread():
        logger.warning(
            "no report at %s: profiling was not started on the main thread, and only that may handle signals. Start it there, "
            "or ask from outside: otel-profiling doctor --pid %d.",
            name,
            os.getpid(),
        )
        return _nothing
    former: Any = signal.getsignal(number)
    if former is signal.SIG_IGN or former is None:
        # What this process starts would no longer ignore it, and would end.
        logger.warning(
            "no report at %s: this process was told to ignore that signal, or a native library handles it. Choose another one: "
            "OTEL_PROFILING_REPORT_SIGNAL.",
            name,
        )
        return _nothing

    def handle(signal_number: int, frame: FrameType | None) -> None:
        _write(report)
        if callable(former):
            former(signal_number, frame)

    signal.signal(number, handle)

    def undo() -> None:
        if signal.getsignal(number) is handle and threading.current_thread() is threading.main_thread():
            signal.signal(number, former)

    return undo


def _write(report: Callable[[], str]) -> None:
    try:
        text = report()
    except Exception as error:  # noqa: BLE001 - in the middle of the application's code, where `logging` may not be used
        text = f"no report: {type(error).__name__}"
    try:
        if select.select([], [_STANDARD_ERROR], [], 0)[1]:
            lines = "".join(f"otel-profiling: {line}\n" for line in text.splitlines())
            os.write(_STANDARD_ERROR, lines.encode(errors="replace"))
    except (OSError, ValueError):
        pass  # closed, or gone


def _nothing() -> None:
    """Undo nothing."""
