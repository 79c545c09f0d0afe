"""Checks the addresses of other people's servers before anything is sent to them."""

from __future__ import annotations

import argparse
import os
import socket
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from .failure import CommandError

if TYPE_CHECKING:
    from otel_profiling_distro.doctor import Finding

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


def answers(server_address: str | None, otlp: str | None) -> list[Finding]:
    """Return what servers make of a profile and of traces, asked with the user's own settings, such as credentials.

    Args:
        server_address: URL of a Pyroscope; None asks none.
        otlp: URL of an OTLP/HTTP endpoint; None asks none.
    """
    if not server_address and not otlp:
        return []

    # Other commands need not wait for these.
    from otel_profiling_configurator import settings  # noqa: PLC0415 - as said

    from otel_profiling_distro.doctor import server, traces  # noqa: PLC0415 - as said

    found: list[Finding] = []
    environ = dict(os.environ)
    if server_address:
        environ |= {"OTEL_PROFILING_SERVER_ADDRESS": server_address, "OTEL_PROFILING_ENABLED": "", "OTEL_SDK_DISABLED": ""}
        found += server.findings(settings.read(environ)[0], environ)
    if otlp:
        environ.pop("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", None)
        environ.pop("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", None)
        environ |= {
            "OTEL_EXPORTER_OTLP_ENDPOINT": otlp,
            "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
            "OTEL_TRACES_EXPORTER": "otlp",
        }
        found += traces.findings(environ, has_file=False)
    return found


def refusal(found: list[Finding]) -> str:
    """Return what is refused and what to do about it; empty where nothing is."""
    return " ".join(
        f"{finding.fact.rstrip('.')}. {finding.consequence} {finding.remedy}"
        for finding in found
        if finding.level.value != "ok"
    )
