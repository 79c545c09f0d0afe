"""Runs a command as if it had been called without us: its exit code, its signals, its input and output are its own.

The command inherits our input and output, and stays in our process group, so that a terminal's keys (Ctrl-C, Ctrl-Z) reach it
as they would. Signals that are sent to us alone are passed on; those that a terminal sends to the whole group are not: the
command has them already.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence

PASSED_ON = frozenset(
    {signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH}
    | ({signal.SIGCONT} if sys.platform == "linux" else set())
)
"""Signals by which others steer a command."""

_SI_KERNEL = 0x80
"""``si_code`` of a signal that the kernel made, as a terminal's keys do (Linux)."""

_TICK_SECONDS = 0.5


class Child:
    """A command that runs. Signals are held back from the moment this is made until `wait` has returned.

    Make it before any thread is started: threads inherit what is held back, and else one of them would take a signal.
    """

    def __init__(self) -> None:
        self.pid: int | None = None
        self._former_mask = signal.pthread_sigmask(signal.SIG_BLOCK, PASSED_ON | {signal.SIGCHLD})

    def start(self, command: Sequence[str], variables: Mapping[str, str]) -> None:
        """Start the command, which is found by the path of `variables`.

        Raises:
            OSError: it can't be started.
        """
        # Python ignores these two; what it starts must not.
        defaults = [signal.SIGPIPE, signal.SIGXFSZ]
        self.pid = os.posix_spawnp(command[0], list(command), dict(variables), setsigmask=self._former_mask, setsigdef=defaults)

    def wait(self, tick: Callable[[], None]) -> int:
        """Return the wait status of the command once it has ended; pass signals on meanwhile, and call `tick` now and then."""
        assert self.pid is not None  # noqa: S101 - for the type checker: started
        try:
            while True:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
                if pid:
                    return status
                if number := _next_signal(_TICK_SECONDS):
                    os.kill(self.pid, number)
                tick()
        finally:
            self.release()

    def release(self) -> None:
        """Take signals as before; what came meanwhile for us is dropped."""
        while _next_signal(0):
            pass
        signal.pthread_sigmask(signal.SIG_SETMASK, self._former_mask)


def _next_signal(seconds: float) -> int | None:
    """Return the next signal to pass on, None where none came in this time, or a child changed."""
    if sys.platform == "linux":
        info = signal.sigtimedwait(PASSED_ON | {signal.SIGCHLD}, seconds)
        if info is None or info.si_signo == signal.SIGCHLD or info.si_code == _SI_KERNEL:
            return None
        return info.si_signo
    # macOS can't wait for so long, and does not say who sent one: a terminal's keys are taken for the terminal's.
    deadline = time.monotonic() + seconds
    while True:
        pending = signal.sigpending() & (PASSED_ON | {signal.SIGCHLD})
        if pending:
            number = signal.sigwait(pending)
            if number == signal.SIGCHLD or (number in {signal.SIGINT, signal.SIGQUIT, signal.SIGWINCH} and _in_foreground()):
                return None
            return number
        if time.monotonic() >= deadline:
            return None
        time.sleep(0.02)


def _in_foreground() -> bool:
    try:
        return os.tcgetpgrp(2) == os.getpgrp()
    except OSError:
        return False


def end_as(status: int) -> int:
    """Return the exit code of a command, or end as it did: whoever waits for us sees the same signal."""
    code = os.waitstatus_to_exitcode(status)
    if code >= 0:
        return code
    number = -code
    sys.stdout.flush()
    sys.stderr.flush()
    if number not in {signal.SIGKILL, signal.SIGSTOP}:
        _leave_no_core()
        signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    return 128 + number  # where it is one that does not end a process


def _leave_no_core() -> None:
    # The command's own core is there already, where the user wants one.
    import resource  # noqa: PLC0415 - needed in this rare case only

    _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, hard))
