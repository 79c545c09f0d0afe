"""Finds the command that was asked for, runs it, and turns what goes wrong into a line and an exit code."""

from __future__ import annotations

import argparse
import io
import signal
import sys
from collections.abc import Sequence
from types import FrameType
from typing import Protocol

from otel_profiling_distro.version import __version__

from . import demo, doctor, run, serve
from .failure import FAILED, INTERRUPTED, TERMINATED, CommandError, Terminated

_PROGRAM = "otel-profiling"


class Command(Protocol):
    """What a module in this package provides."""

    NAME: str
    HELP: str

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the command's options."""

    def run(self, arguments: argparse.Namespace) -> int:
        """Do it and return the exit code; `CommandError` says what went wrong."""


_COMMANDS: tuple[Command, ...] = (run, serve, demo, doctor)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0, 1 for a failure, 128 and the signal's number when interrupted.

    Args:
        arguments: Those of the command line; None takes the process's own.

    Raises:
        SystemExit: with 2, for a command line that makes no sense; with 0 after ``--help`` and ``--version``.
    """
    for stream in (sys.stdout, sys.stderr):
        # A terminal that can't show a character gets a question mark, not a UnicodeEncodeError at the very end.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    parsed = _parser().parse_args(arguments)
    previous = signal.signal(signal.SIGTERM, _terminate)
    try:
        return int(parsed.run(parsed))
    except CommandError as error:
        return _fail(str(error), FAILED)
    except KeyboardInterrupt:
        return _fail("interrupted", INTERRUPTED)
    except Terminated:
        return _fail("terminated", TERMINATED)
    except BrokenPipeError:
        # The reader of our output has gone, as `| head` does. Python would complain again when it flushes at exit.
        sys.stdout = io.StringIO()
        return FAILED
    finally:
        signal.signal(signal.SIGTERM, previous)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=_PROGRAM, description="Span profiles for Python with OpenTelemetry.")
    parser.add_argument("--version", action=_Version, nargs=0, help="show the version, and which form of it is here")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for command in _COMMANDS:
        own = commands.add_parser(command.NAME, help=command.HELP, description=command.HELP)
        command.add_arguments(own)
        own.set_defaults(run=command.run, parser=own)
    return parser


class _Version(argparse.Action):
    """Says the version and the form; looks for the latter only here, since that takes as long as all the rest."""

    def __call__(self, parser: argparse.ArgumentParser, *_arguments: object) -> None:
        from otel_profiling_configurator.native import native, why_missing  # noqa: PLC0415 - as said

        form = f"without its native module: {why_missing}" if native is None else "with its native module"
        print(f"{_PROGRAM} {__version__} ({form})")
        parser.exit()


def _terminate(_number: int, _frame: FrameType | None) -> None:
    raise Terminated


def _fail(message: str, code: int) -> int:
    print(f"{_PROGRAM}: {message}", file=sys.stderr)
    return code
