"""Our logger, and a way for its lines to be seen before the application has configured logging.

We speak during interpreter start-up, when no handler exists yet: Python's handler of last resort would drop an INFO line
and print a warning without saying whose it is. Once the application configures logging, our lines go where it says.
"""

from __future__ import annotations

import logging
import sys
import threading
from typing import Any

logger = logging.getLogger("otel_profiling_configurator")


class _UntilConfigured(logging.StreamHandler):  # type: ignore[type-arg] # generic only to type checkers before Python 3.11
    """Writes to the current ``sys.stderr`` while the root logger has no handler but OpenTelemetry's.

    Distros may have one of those there from the start: it exports log records, and nobody reads them where we are needed.
    """

    def emit(self, record: logging.LogRecord) -> None:
        if any(not type(handler).__module__.startswith("opentelemetry.") for handler in logging.getLogger().handlers):
            return
        if sys.stderr is None:
            return
        # Looked up for each line: the application may replace or close the stream that was there at start-up.
        self.stream = sys.stderr
        super().emit(record)


def configure(level: int) -> None:
    """Let lines of `level` (a `logging` level) and above through; calling it again only changes the level."""
    logger.setLevel(level)
    if not any(isinstance(handler, _UntilConfigured) for handler in logger.handlers):
        handler = _UntilConfigured()
        handler.setFormatter(logging.Formatter("otel-profiling %(levelname)s: %(message)s"))
        logger.addHandler(handler)


def forget_thread() -> None:
    """Take this thread off the list of `threading`, where it does not belong; to be called on threads of ours that have logged.

    A log record names its thread, and to find the name `threading` lists a thread that it did not start, for as long as the
    process lives: `threading.enumerate` would show one more (CPython 3.10 to 3.14; nobody but `threading` can take it off).
    """
    listed: dict[int, Any] = getattr(threading, "_active", {})
    thread = listed.get(threading.get_ident())
    if type(thread).__name__ == "_DummyThread":
        listed.pop(threading.get_ident(), None)
