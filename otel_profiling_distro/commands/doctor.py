"""`otel-profiling doctor`: says whether profiles would arrive from here, and if not, why not and what to do."""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from .failure import FAILED

if TYPE_CHECKING:
    from otel_profiling_distro.doctor import Finding, Report

NAME = "doctor"
HELP = "Say whether profiles would arrive from here, and if not, why not and what to do."

_PLAIN_WIDTH = 110
_STYLES = {"ok": "green", "note": "cyan", "warning": "yellow", "fault": "bold red"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what is looked at, and how it is shown."""
    parser.usage = "otel-profiling doctor [options] [-- COMMAND [argument ...]]"
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument(
        "--pid", type=_pid, metavar="N", help="look at a running process of the same user instead, from outside"
    )
    parser.add_argument(
        "command",
        nargs=argparse.REMAINDER,
        metavar="COMMAND",
        help="how the application is started, after --; it is looked at and not run",
    )


def run(arguments: argparse.Namespace) -> int:
    """Look, print what was found, and return 0 only where profiles would arrive."""
    command = arguments.command[1:] if arguments.command[:1] == ["--"] else arguments.command
    if arguments.pid is not None and command:
        arguments.parser.error("--pid is a process that runs, and COMMAND one that would be started: which?")
    # What reads the SDK's configuration file logs a traceback where it can't; the report says why, without the file's text.
    loader = logging.getLogger("opentelemetry.configuration")
    loader.addHandler(logging.NullHandler())
    loader.propagate = False
    from otel_profiling_distro.doctor import examine, examine_process  # noqa: PLC0415 - other commands need not wait for it

    report = examine_process(arguments.pid) if arguments.pid is not None else examine(command, os.environ)
    if arguments.json:
        print(json.dumps(report.as_json(), indent=2))
    else:
        _show(report)
    return 0 if report.arrives else FAILED


def _show(report: Report) -> None:
    console = Console(highlight=False, width=None if sys.stdout.isatty() else _PLAIN_WIDTH)
    table = Table.grid(padding=(0, 2))
    for column in ("level", "question"):
        table.add_column(column, no_wrap=True)
    table.add_column("what")
    for finding in report.findings:
        table.add_row(Text(finding.level.value, _STYLES[finding.level.value]), Text(finding.question), _said(finding))
    console.print(table)
    changed = [setting for setting in report.settings if setting.source != "default"]
    if changed:
        table = Table.grid(padding=(0, 2))
        for setting in changed:
            table.add_row(Text(setting.name), Text(setting.value), Text(f"from {setting.source}"))
        console.print(Text("\nSettings (others have their defaults; --json has them all)"), table)
    console.print(Text("\nProfiles would arrive." if report.arrives else "\nProfiles would not arrive.", "bold"))


def _said(finding: Finding) -> Text:
    text = Text(finding.fact)
    if finding.consequence and finding.level.value != "ok":
        text.append(f"\n{finding.consequence}", "dim")
    if finding.remedy:
        text.append("\n-> ").append(finding.remedy)
    return text


def _pid(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no process's id")
    return int(text)
