"""A receiver for the self-test that needs nothing but the standard library: an application's environment has no web server.

It takes uploads in as the receiver of `otel-profiling serve` does, and refuses what that refuses.
"""

from __future__ import annotations

import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

from otel_profiling_distro.receiver.intake import Intake
from otel_profiling_distro.receiver.model import Sample, Span
from otel_profiling_distro.receiver.rules import RefusedError
from otel_profiling_distro.receiver.store import Store


class Loopback:
    """Listens on a free port of 127.0.0.1 and keeps what comes. A context manager."""

    def __init__(self) -> None:
        self._store = Store()
        intake = Intake(self._store, HTTPStatus.OK, None, None, None)

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:  # the standard library's name
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                status, words = HTTPStatus.OK, b""
                try:
                    intake.take(self.path, {name.lower(): value for name, value in self.headers.items()}, body)
                except RefusedError as error:
                    status, words = HTTPStatus(error.status), error.words.encode()
                self.send_response(status)
                self.send_header("content-length", str(len(words)))
                self.end_headers()
                self.wfile.write(words)

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - as above
                """Say nothing: standard error is the report's."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def url(self) -> str:
        """Where to send to."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def samples(self) -> list[Sample]:
        """Return the samples that came."""
        return self._store.samples()

    def spans(self) -> list[Span]:
        """Return the spans that came."""
        return self._store.spans()

    def __enter__(self) -> Loopback:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
