"""Whether the OTLP endpoint answers to which traces go: a profile's link leads to a trace."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping
from urllib.parse import unquote, urlsplit

from .asking import Kind, post, speaks_http2, without_credentials
from .finding import Finding, Level

_SECONDS = 5.0
_ERRORS = 400
_NO_LINK = "Profiles arrive, and their links lead to traces that are not there."


def findings(environ: Mapping[str, str], *, has_file: bool) -> Iterator[Finding]:
    """Yield where traces go and whether somebody takes them there.

    Args:
        environ: The application's environment.
        has_file: Whether a configuration file of the SDK says it instead.
    """
    if has_file:
        yield Finding("traces", Level.NOTE, "the configuration file says where they go; that was not tried")
        return
    exporter = environ.get("OTEL_TRACES_EXPORTER", "otlp").strip()
    if exporter == "none":
        yield Finding("traces", Level.WARNING, "OTEL_TRACES_EXPORTER=none: no trace is sent.", _NO_LINK, "Unset it.")
        return
    if not exporter.startswith("otlp"):
        yield Finding("traces", Level.NOTE, f"they are exported by {exporter!r}; that was not tried")
        return
    protocol = environ.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") or environ.get("OTEL_EXPORTER_OTLP_PROTOCOL") or "grpc"
    over_http = exporter == "otlp_proto_http" or protocol.startswith("http/")
    yield _http(environ) if over_http else _grpc(environ)


def _http(environ: Mapping[str, str]) -> Finding:
    base = environ.get("OTEL_EXPORTER_OTLP_ENDPOINT") or "http://localhost:4318"
    address = environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") or base.rstrip("/") + "/v1/traces"
    given = environ.get("OTEL_EXPORTER_OTLP_TRACES_HEADERS") or environ.get("OTEL_EXPORTER_OTLP_HEADERS") or ""
    headers = {name.strip(): unquote(value.strip()) for name, _, value in (entry.partition("=") for entry in given.split(","))}
    headers.pop("", None)
    answer = post(address, b"", {"content-type": "application/x-protobuf", **headers}, environ)
    place = without_credentials(address)
    if answer.kind is Kind.ANSWER and answer.status < _ERRORS:
        return Finding("traces", Level.OK, f"{place} takes traces")
    words = f"it answers {answer.status} {answer.words}".strip() if answer.kind is Kind.ANSWER else answer.words
    return Finding(
        "traces",
        Level.WARNING,
        f"{place} does not take traces: {words}",
        _NO_LINK,
        "OTEL_EXPORTER_OTLP_ENDPOINT is the collector's: port 4318 for http/protobuf, 4317 for grpc, which "
        "OTEL_EXPORTER_OTLP_PROTOCOL chooses.",
    )


def _grpc(environ: Mapping[str, str]) -> Finding:
    address = (
        environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
        or environ.get("OTEL_EXPORTER_OTLP_ENDPOINT")
        or "http://localhost:4317"
    )
    parts = urlsplit(address if "//" in address else f"//{address}")
    place = without_credentials(address)
    try:
        host, port = parts.hostname or "localhost", parts.port or 4317
        if parts.scheme == "https":
            socket.create_connection((host, port), _SECONDS).close()
            return Finding("traces", Level.OK, f"{place} accepts connections (gRPC with TLS; no trace was sent)")
        speaks = speaks_http2(host, port)
    except (OSError, ValueError) as error:
        return Finding("traces", Level.WARNING, f"{place} can't be reached by gRPC: {error}", _NO_LINK, _GRPC_REMEDY)
    if speaks:
        return Finding("traces", Level.OK, f"{place} speaks gRPC's protocol (no trace was sent)")
    return Finding("traces", Level.WARNING, f"{place} does not speak gRPC.", _NO_LINK, _GRPC_REMEDY)


_GRPC_REMEDY = (
    "Traces are sent by gRPC, unless OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf says otherwise. A collector takes gRPC at port "
    "4317, HTTP at 4318: OTEL_EXPORTER_OTLP_ENDPOINT."
)
