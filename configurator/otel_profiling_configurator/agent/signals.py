"""Keeps signals off our threads and the agent's: they are for the threads of the application.

A signal that is sent to a process goes to any of its threads that does not block it. An application that blocks one on all of
its threads, to wait for it with `signal.sigwait`, would be ended by it on one of ours. And Python's handler writes to the
descriptor of `signal.set_wakeup_fd` on the thread that it runs on, which has another table of descriptors there
(see `descriptors`). Threads inherit what is blocked from the one that starts them.
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator


@contextlib.contextmanager
def blocked() -> Iterator[None]:
    """Block all signals on this thread meanwhile; those that come are handled afterwards."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    try:
        # May raise what a handler of the application's raises, and block them all the same.
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
