"""`otel-profiling run -- COMMAND`: profiles a command on this machine, shows what comes, and sums it up at the end."""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from .child import Child, end_as
from .failure import CommandError
from .launch import Environment, environment, launcher
from .listening import add_bounds, open_page, port, receiver_of, require_extra, say, start

if TYPE_CHECKING:
    from otel_profiling_distro.receiver import Receiver

NAME = "run"
HELP = "Profile a command on this machine: a page while it runs, a report at the end."

_CANT_RUN = 126
_NOT_FOUND = 127
"""What shells exit with."""

_PLAIN_WIDTH = 110
_FIRST_COUNTS_SECONDS = 5.0
_MOST_SECONDS_BETWEEN_COUNTS = 300.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what to keep and to show."""
    parser.usage = "otel-profiling run [options] -- COMMAND [argument ...]"
    parser.add_argument("--port", type=port, default=0, help="of the page, on 127.0.0.1 (default: any that is free)")
    parser.add_argument("--open", action="store_true", help="open the page in a browser")
    parser.add_argument("--keep", action="store_true", help="after the command has ended, keep the page until Ctrl-C")
    parser.add_argument(
        "--output", type=Path, metavar="DIR", help="keep what came: pprof files, traces as OTLP JSON, the page in one HTML file"
    )
    parser.add_argument("--quiet", action="store_true", help="say nothing but what goes wrong, and make no report")
    add_bounds(parser)
    parser.add_argument("command", nargs=argparse.REMAINDER, metavar="COMMAND", help="what to run, after --")


def run(arguments: argparse.Namespace) -> int:
    """Run the command to its end and return its exit code; where a signal ended it, end by the same one.

    Raises:
        CommandError: the extra is missing, a port is taken, or the output can't be kept.
    """
    command = arguments.command[1:] if arguments.command[:1] == ["--"] else arguments.command
    if not command:
        arguments.parser.error("which command? otel-profiling run -- python app.py")
    require_extra()
    if shutil.which(command[0]) is None:
        found = Path(command[0]).exists()
        say(f"{command[0]}: {'permission denied' if found else 'command not found'}")
        return _CANT_RUN if found else _NOT_FOUND
    if arguments.output is not None:
        _require_folder(arguments.output)

    child = Child()
    receiver = receiver_of(arguments, "127.0.0.1", [arguments.port])
    try:
        has_page = start(receiver)
        told = environment(os.environ, command, receiver.url)
        _begin(arguments, receiver, told, has_page)
        try:
            child.start([*launcher(), *command], told.variables)
        except OSError as error:
            raise CommandError(f"{command[0]} can't be started: {error.strerror or error}") from error
        counts = _Counts(receiver, shown=sys.stderr.isatty() and not arguments.quiet)
        status = child.wait(counts.tick)
    except BaseException:
        child.release()
        receiver.stop()
        raise
    try:
        _end(arguments, receiver, told, has_page)
    finally:
        receiver.stop()
    return end_as(status)


def _begin(arguments: argparse.Namespace, receiver: Receiver, told: Environment, has_page: bool) -> None:
    for line in told.elsewhere:
        say(line)
    if has_page and not arguments.quiet:
        say(f"profiling {told.service}; the page is at {receiver.url}")
    if has_page and arguments.open:
        threading.Thread(target=open_page, args=(receiver.url,), daemon=True).start()


def _end(arguments: argparse.Namespace, receiver: Receiver, told: Environment, has_page: bool) -> None:
    counts = receiver.store.counts()
    if not counts["samples"] and not counts["spans"] and not told.elsewhere:
        say(
            "nothing came. Is otel-profiling-distro installed in the environment that the command runs in, and did it use any "
            "CPU time?"
        )
    if not arguments.quiet:
        _report(receiver)
    if arguments.output is not None:
        from otel_profiling_distro.page.keep import keep  # noqa: PLC0415 - needs the extra

        try:
            kept = keep(receiver.store, arguments.output)
        except OSError as error:
            raise CommandError(f"what came can't be kept in {arguments.output}: {error.strerror or error}") from error
        if not arguments.quiet:
            say(f"kept in {arguments.output}: {kept}")
    if arguments.keep and has_page:
        say(f"the page is still at {receiver.url}; Ctrl-C ends it")
        with contextlib.suppress(KeyboardInterrupt):  # how it is meant to end
            threading.Event().wait()


def _report(receiver: Receiver) -> None:
    from otel_profiling_distro.report import render, summarise  # noqa: PLC0415 - imports the receiver, which needs the extra

    # Standard output is the command's.
    console = Console(file=sys.stderr, highlight=False, width=None if sys.stderr.isatty() else _PLAIN_WIDTH)
    store = receiver.store
    for name in store.services():
        console.print(render(summarise(store.each_sample(name), store.span_records(name)), name or "(no service name)"))


def _require_folder(folder: Path) -> None:
    """Return where something can be kept in `folder`; before the command runs, and not after an hour of it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CommandError(f"can't make the folder {folder}: {error.strerror or error}") from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise CommandError(f"can't write into {folder}: permission denied")


class _Counts:
    """Says how much has come in, at first after seconds, then ever more seldom: the terminal is the command's, too."""

    def __init__(self, receiver: Receiver, *, shown: bool) -> None:
        self._store = receiver.store
        self._shown = shown
        self._wait = _FIRST_COUNTS_SECONDS
        self._next = time.monotonic() + self._wait
        self._generation = 0

    def tick(self) -> None:
        if not self._shown or time.monotonic() < self._next:
            return
        self._wait = min(2 * self._wait, _MOST_SECONDS_BETWEEN_COUNTS)
        self._next = time.monotonic() + self._wait
        if self._store.generation != self._generation:
            self._generation = self._store.generation
            counts = self._store.counts()
            say(f"{counts['traces']:,} traces and {counts['samples']:,} samples so far")
