"""What the commands that receive have in common: their options, the receiver with its page, and what to say about it."""

from __future__ import annotations

import argparse
import errno
import gc
import importlib.util
import ipaddress
import sys
import webbrowser
from typing import TYPE_CHECKING

from .failure import CommandError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from otel_profiling_distro.receiver import Receiver

_NEEDED = ("starlette", "uvicorn")
"""Modules of the extra `page`."""

LAST_PORT = 65_535
_MIB = 2**20
_MINUTE = 60
_OBJECTS_BEFORE_COLLECTION = 200_000


def require_extra() -> None:
    """Return where the receiver can be imported.

    Raises:
        CommandError: what it is made of is not installed; says how to install it.
    """
    if any(importlib.util.find_spec(module) is None for module in _NEEDED):
        raise CommandError("this needs Starlette and uvicorn: pip install 'otel-profiling-distro[page]'")


def add_bounds(parser: argparse.ArgumentParser) -> None:
    """Declare how much is kept."""
    parser.add_argument(
        "--max-age", type=positive, default=60, metavar="MINUTES", help="drop what is older than this (default: 60)"
    )
    parser.add_argument(
        "--max-memory", type=positive, default=300, metavar="MIB", help="drop the oldest beyond this (default: 300)"
    )


def receiver_of(arguments: argparse.Namespace, host: str, ports: Iterable[int], hosts: Iterable[str] = ()) -> Receiver:
    """Return a receiver, not yet started, within the bounds that `add_bounds` declared."""
    from otel_profiling_distro.receiver import Bounds, Receiver  # noqa: PLC0415 - needs the extra

    first, *more = ports
    bounds = Bounds(seconds=arguments.max_age * _MINUTE, size=int(arguments.max_memory * _MIB))
    return Receiver(host, first, more_ports=more, bounds=bounds, hosts=hosts, remembered=1_000)


def start(receiver: Receiver, *, page: bool = True, remedy: str = "--port takes another port") -> bool:
    """Start a receiver, with its page where `page` asks for it; return whether there is one. One line says why there is not.

    Args:
        receiver: Not yet started.
        page: Whether there is to be a page.
        remedy: What to do where a port is in use.

    Raises:
        CommandError: it can't listen.
    """
    from otel_profiling_distro.page import AssetsError, load_assets, page_routes  # noqa: PLC0415 - needs the extra

    pages = []
    if page:
        try:
            pages = page_routes(receiver.store, load_assets())
        except AssetsError as error:
            say(str(error))
    try:
        receiver.start(pages)
    except OSError as error:
        where = error.filename or "any port"
        more = f"; {remedy}" if error.errno == errno.EADDRINUSE else ""
        raise CommandError(f"can't listen on {where}: {error.strerror or error}{more}") from error
    # Among a million small objects that stay, looking for garbage in cycles took two thirds of the time of a view, and found
    # none (100,000 spans, CPython 3.11). This process is ours; in others the receiver leaves the collector alone.
    gc.set_threshold(_OBJECTS_BEFORE_COLLECTION, 10, 10)
    return bool(pages)


def open_page(url: str) -> None:
    """Show the page in a browser, or say where it is where there is none."""
    if not webbrowser.open(url):
        say(f"no browser could be opened; the page is at {url}")


def is_loopback(host: str) -> bool:
    """Return whether only this machine reaches what listens on `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def say(line: str) -> None:
    """Tell the user something that is no part of the result."""
    print(f"otel-profiling: {line}", file=sys.stderr, flush=True)


def port(text: str) -> int:
    """Return a port, for argparse; raises `argparse.ArgumentTypeError` where `text` is none."""
    if not text.isascii() or not text.isdigit() or int(text) > LAST_PORT:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 to {LAST_PORT}")
    return int(text)


def positive(text: str) -> float:
    """Return a number above zero, for argparse; raises `argparse.ArgumentTypeError` where `text` is none."""
    try:
        number = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no number") from None
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError("must be more than 0")
    return number
