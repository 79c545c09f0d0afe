"""Asks servers over HTTP, as the agent does: with its proxies, its certificates, and no redirects."""

from __future__ import annotations

import base64
import http.client
import ipaddress
import socket
import ssl
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any
from urllib.parse import unquote, urlsplit

_SECONDS = 5.0
_ANSWER_BYTES = 2_000
_HTTP2 = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"
"""What an HTTP/2 client begins with: the preface and a frame of no settings (RFC 9113, 3.4)."""
_SETTINGS_FRAME = 4
_FRAME_HEADER = 9


class Kind(Enum):
    """How a request ended."""

    ANSWER = "answer"
    UNRESOLVED = "unresolved"
    REFUSED = "refused"
    SILENT = "silent"
    TLS = "tls"
    NOT_HTTP = "not http"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of a request."""

    kind: Kind
    status: int = 0
    """Of an answer."""
    words: str = ""
    """The answer's first words, or the error's."""
    proxy: str = ""
    """Through which the request went, without its password; empty for none."""


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_arguments: Any, **_named: Any) -> None:
        return None


def proxy_of(address: str, environ: Mapping[str, str]) -> str:
    """Return the URL of the proxy that the environment has for an address; empty for none."""
    parts = urlsplit(address)
    lower = {name.lower(): value for name, value in environ.items() if name.lower().endswith("_proxy")}
    host = parts.hostname or ""
    for entry in filter(None, map(str.strip, lower.get("no_proxy", "").split(","))):
        if entry == "*" or host == entry.lstrip(".") or host.endswith("." + entry.lstrip(".")) or _is_within(host, entry):
            return ""
    return lower.get(f"{parts.scheme}_proxy", "") or lower.get("all_proxy", "")


def _is_within(host: str, network: str) -> bool:
    """Whether a host is an address of a network such as ``10.0.0.0/8``."""
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(network, strict=False)
    except ValueError:
        return False


def without_credentials(address: str) -> str:
    """Return a URL without its user and password."""
    before, separator, rest = address.partition("//")
    return f"{before}{separator}***@{rest.rpartition('@')[2]}" if "@" in rest else address


def post(address: str, body: bytes, headers: Mapping[str, str], environ: Mapping[str, str]) -> Answer:
    """Post a body and return what came of it.

    Args:
        address: An http or https URL without credentials.
        body: What is sent.
        headers: Headers of the request.
        environ: Where proxies and certificates are named.
    """
    proxy = proxy_of(address, environ)
    shown = without_credentials(proxy)
    try:
        context = ssl.create_default_context(cafile=environ.get("SSL_CERT_FILE") or None)
        # No proxies of urllib's own: it would look for them in the environment of this process.
        opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context), _NoRedirect
        )
        request = urllib.request.Request(address, body, dict(headers), method="POST")  # noqa: S310 - http or https, see above
        if proxy:
            _send_through(proxy, request)
        with opener.open(request, timeout=_SECONDS) as response:
            return Answer(Kind.ANSWER, response.status, _text(response.read(_ANSWER_BYTES)), shown)
    except urllib.error.HTTPError as error:
        with error:
            return Answer(Kind.ANSWER, error.code, _text(error.read(_ANSWER_BYTES)), shown)
    except urllib.error.URLError as error:
        return _failure(error.reason if isinstance(error.reason, Exception) else error, shown)
    except (OSError, http.client.HTTPException, ValueError) as error:
        return _failure(error, shown)


def speaks_http2(host: str, port: int) -> bool:
    """Return whether a server speaks HTTP/2 without TLS, as those of gRPC do.

    Raises:
        OSError: it can't be reached.
    """
    with socket.create_connection((host, port), _SECONDS) as connection:
        connection.settimeout(_SECONDS)
        connection.sendall(_HTTP2)
        begin = connection.recv(_FRAME_HEADER)
    return len(begin) == _FRAME_HEADER and begin[3] == _SETTINGS_FRAME


def _send_through(proxy: str, request: urllib.request.Request) -> None:
    """Have a request go through a proxy, by its URL."""
    parts = urlsplit(proxy if "//" in proxy else f"http://{proxy}")
    if parts.username is not None:
        credentials = f"{unquote(parts.username)}:{unquote(parts.password or '')}".encode()
        request.add_header("Proxy-Authorization", "Basic " + base64.b64encode(credentials).decode())
    request.set_proxy(parts.netloc.rpartition("@")[2], parts.scheme)


def _failure(error: Exception, proxy: str) -> Answer:
    kinds: list[tuple[type[Exception], Kind]] = [
        (socket.gaierror, Kind.UNRESOLVED),
        (ssl.SSLError, Kind.TLS),
        (ConnectionRefusedError, Kind.REFUSED),
        (http.client.RemoteDisconnected, Kind.NOT_HTTP),
        (ConnectionResetError, Kind.NOT_HTTP),
        (http.client.HTTPException, Kind.NOT_HTTP),
        (TimeoutError, Kind.SILENT),
    ]
    kind = next((kind for type_, kind in kinds if isinstance(error, type_)), Kind.FAILED)
    return Answer(kind, words=_text(str(error).encode(errors="replace")), proxy=proxy)


def _text(data: bytes) -> str:
    """Return a stranger's words as a line can have them."""
    return ascii(" ".join(data.decode(errors="replace").split())[:300])[1:-1].replace("\\'", "'")
