"""`otel-profiling serve`: takes profiles and traces from applications that are started elsewhere, and shows them on a page."""

from __future__ import annotations

import argparse
import threading

from .listening import add_bounds, is_loopback, open_page, port, receiver_of, require_extra, say, start

NAME = "serve"
HELP = "Receive profiles and traces of any applications on the usual ports, in memory, and show them on a page."

_PROFILES_PORT = 4040
_TRACES_PORT = 4318


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare where to listen and how much to keep."""
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1, this machine alone)")
    parser.add_argument(
        "--profiles-port",
        type=port,
        default=_PROFILES_PORT,
        metavar="PORT",
        help="of Pyroscope, and of the page (default: 4040)",
    )
    parser.add_argument(
        "--traces-port", type=port, default=_TRACES_PORT, metavar="PORT", help="of OTLP over HTTP (default: 4318)"
    )
    parser.add_argument(
        "--allow-host",
        action="append",
        default=[],
        metavar="NAME",
        help="a name of this machine that requests may use, besides addresses and localhost; may be given several times",
    )
    parser.add_argument("--open", action="store_true", help="open the page in a browser")
    add_bounds(parser)


def run(arguments: argparse.Namespace) -> int:
    """Receive until Ctrl-C or SIGTERM.

    Raises:
        CommandError: the extra is missing, or a port is taken.
    """
    require_extra()
    # One port is enough for both; twice the same one can't be had.
    ports = list(dict.fromkeys([arguments.profiles_port, arguments.traces_port]))
    receiver = receiver_of(arguments, arguments.host, ports, arguments.allow_host)
    has_page = start(receiver, remedy="--profiles-port and --traces-port take others")
    try:
        if not is_loopback(arguments.host):
            say(
                f"listening on {arguments.host}: whoever reaches this machine can read the profiles and add to them, without "
                "a password; without --host only this machine can"
            )
        # Without its protocol an exporter of Python uses gRPC and another port: profiles would come, and no traces.
        say(
            f"profiles (Pyroscope) to {receiver.urls[0]}, traces (OTLP over HTTP, OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf) "
            f"to {receiver.urls[-1]}"
        )
        if has_page:
            say(f"the page is at {receiver.urls[0]}; Ctrl-C ends it, and what came is gone then")
            if arguments.open:
                open_page(receiver.urls[0])
        threading.Event().wait()
    except KeyboardInterrupt:
        pass  # how it is meant to end
    finally:
        receiver.stop()
    return 0
