"""Checks the addresses of other people's servers before anything is sent to them."""

from __future__ import annotations

import argparse
import socket
from urllib.parse import urlsplit

from .failure import CommandError

_PORTS = {"http": 80, "https": 443}
_TIMEOUT_SECONDS = 3.0


def url(text: str) -> str:
    """Return the URL of a server, for argparse; only http and https have agents and exporters here.

    Raises:
        argparse.ArgumentTypeError: `text` is no such URL.
    """
    try:
        parts = urlsplit(text)
        parts.port  # noqa: B018 - raises ValueError where it is no port
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r}: {error}") from None
    if parts.scheme not in _PORTS or not parts.hostname:
        raise argparse.ArgumentTypeError(f"{text!r} is not like http://localhost:4040")
    return text.rstrip("/")


def require_reachable(option: str, address: str) -> None:
    """Return where something accepts TCP connections at the URL `address`.

    Raises:
        CommandError: nothing does; names `option`, which gave the address.
    """
    parts = urlsplit(address)
    try:
        socket.create_connection((parts.hostname, parts.port or _PORTS[parts.scheme]), _TIMEOUT_SECONDS).close()
    except OSError as error:
        raise CommandError(f"nothing answers at {address} ({option}): {error.strerror or error}") from error
