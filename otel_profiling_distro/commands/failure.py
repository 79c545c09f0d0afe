"""How a command ends badly: with one clear line and an exit code, never with a traceback."""

from __future__ import annotations

FAILED = 1
INTERRUPTED = 130
"""128 + SIGINT, as shells count."""
TERMINATED = 143
"""128 + SIGTERM."""


class CommandError(Exception):
    """A command can't go on; the message is for the user and says what to do."""


class Terminated(BaseException):
    """SIGTERM arrived. No `Exception`, for the reason that KeyboardInterrupt is none: nothing may swallow it."""
