"""`otel-profiling demo`: the whole product at work on one machine, in ten seconds and without any server."""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import os
import sys
import threading
from typing import TYPE_CHECKING, TextIO

from rich.console import Console
from rich.text import Text

from otel_profiling_distro.demo.contract import SERVICE_NAME, SHOP_MODULE, STOP_AT_EOF
from otel_profiling_distro.demo.service import Service, ServiceError, environment, instrumented
from otel_profiling_distro.demo.traffic import Outcome, send_traffic

from .backend import answers, refusal, require_reachable, url
from .failure import CommandError
from .listening import add_bounds, open_page, port, positive, receiver_of, require_extra, start

if TYPE_CHECKING:
    from otel_profiling_distro.receiver import Receiver

NAME = "demo"
HELP = "Profile a small bundled web service and show which route and which span its CPU time went to."

_NEEDED = ("flask", "asgiref", "opentelemetry.instrumentation.flask")
"""Modules of the extra `demo`: Flask, what its async views need, and what makes its requests spans."""

_PLAIN_WIDTH = 110
"""Columns where the output is no terminal."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of the demo."""
    parser.add_argument("--seconds", type=positive, default=10.0, help="how long to send traffic (default: 10)")
    parser.add_argument("--server", type=url, metavar="URL", help="send profiles to this Pyroscope instead")
    parser.add_argument("--otlp", type=url, metavar="URL", help="send traces to this OTLP/HTTP endpoint instead")
    parser.add_argument(
        "--port", type=port, default=0, help="port of the embedded receiver on 127.0.0.1 (default: any that is free)"
    )
    parser.add_argument("--open", action="store_true", help="open the page in a browser at the end")
    parser.add_argument("--keep", action="store_true", help="keep the page until Ctrl-C, as is done in a terminal")
    add_bounds(parser)


def run(arguments: argparse.Namespace) -> int:
    """Run the service, send it traffic, stop it, and show what arrived.

    Raises:
        CommandError: something needed is missing, unreachable, or did not work.
    """
    if arguments.port and arguments.server and arguments.otlp:
        arguments.parser.error("--port is the embedded receiver's, which --server and --otlp together replace")
    if any(importlib.util.find_spec(module) is None for module in _NEEDED):
        raise CommandError("the demo service needs Flask: pip install 'otel-profiling-distro[demo]'")
    for option, address in (("--server", arguments.server), ("--otlp", arguments.otlp)):
        if address is not None:
            require_reachable(option, address)
    if refused := refusal(answers(arguments.server, arguments.otlp)):
        raise CommandError(refused)

    require_extra()
    console = _console(sys.stdout)
    elsewhere = bool(arguments.server or arguments.otlp)
    # Where nobody is there to look, as in a pipe, the report is all.
    shown = not elsewhere and (arguments.keep or arguments.open or (sys.stdin.isatty() and sys.stdout.isatty()))
    receiver = receiver_of(arguments, "127.0.0.1", [arguments.port])
    shown = start(receiver, page=shown)
    try:
        outcome, losses = _profile(arguments, receiver.url)
        if outcome.failures:
            print(f"{len(outcome.failures)} requests failed, the first: {outcome.failures[0]}", file=sys.stderr)
        if elsewhere and losses:
            raise CommandError(f"not all that the demo sent was taken: {losses[0]}")
        if elsewhere:
            _say_where_to_look(console, arguments.server, arguments.otlp)
        else:
            _report(console, receiver)
        if shown:
            _show(console, arguments, receiver.url)
    finally:
        receiver.stop()
    return 0


def _show(console: Console, arguments: argparse.Namespace, address: str) -> None:
    console.print(Text(f"Flame graphs, traces and routes until Ctrl-C: {address}"))
    if arguments.open:
        open_page(address)
    with contextlib.suppress(KeyboardInterrupt):  # how it is meant to end
        threading.Event().wait()


def _profile(arguments: argparse.Namespace, receiver_url: str) -> tuple[Outcome, list[str]]:
    """Let customers use the service for a while; once this returns, it has sent everything and has ended.

    Returns what came of the requests, and what the service said of servers that did not take what it sent.
    """
    # Progress is for a person who waits, and no part of the result: standard error, and only where it is a terminal.
    progress = Console(stderr=True, highlight=False, quiet=not sys.stderr.isatty())
    env = environment(os.environ, arguments.server, arguments.otlp, receiver_url)
    command = instrumented(SHOP_MODULE, STOP_AT_EOF)
    try:
        with progress.status("starting the demo service") as status, Service(command, env) as service:
            shop = service.wait_until_listening()
            status.update(f"profiling {SERVICE_NAME} for {arguments.seconds:g} s: 4 customers, {shop}")
            outcome = send_traffic(shop, arguments.seconds, service.check)
            status.update("stopping it; it sends what it still has")
    except ServiceError as error:
        raise CommandError(str(error)) from error
    if not outcome.answered:
        raise CommandError(f"the service answered no request; the last failure: {outcome.failures[-1]}")
    return outcome, service.losses


def _report(console: Console, receiver: Receiver) -> None:
    from otel_profiling_distro.report import render, summarise  # noqa: PLC0415 - imports the receiver, which needs the extra

    samples, spans = receiver.samples(SERVICE_NAME), receiver.spans(SERVICE_NAME)
    for what, received in (("profiles", samples), ("traces", spans)):
        if not received:
            raise CommandError(f"no {what} arrived; is otel-profiling-configurator installed, and supported here?")
    console.print(render(summarise(samples, spans), SERVICE_NAME))


def _say_where_to_look(console: Console, server: str | None, otlp: str | None) -> None:
    query = f'process_cpu{{service_name="{SERVICE_NAME}"}}'
    for what, address, where in (
        ("profiles", server, f"Pyroscope or Grafana, query {query}"),
        ("traces", otlp, f"spans of the service {SERVICE_NAME} with the attribute pyroscope.profile.id"),
    ):
        line = f"{what} went nowhere: no address was given for them"
        if address:
            line = f"{what} went to {address}, which takes them: {where}"
        console.print(Text(line))


def _console(stream: TextIO) -> Console:
    """Return a console that fits its terminal, or prints plain text of a width that the tables need."""
    return Console(file=stream, highlight=False, width=None if stream.isatty() else _PLAIN_WIDTH)
