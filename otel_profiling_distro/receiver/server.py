"""Stands in for Pyroscope and for an OpenTelemetry collector, on one loopback port, so that what an application really
sends can be looked at: by `otel-profiling demo` and by the integration tests.

It speaks as much of both protocols as agents and exporters use: Pyroscope's push API and OTLP over HTTP, in protobuf.
It refuses what a real Pyroscope refuses, see `rules`, and remembers what it refused.
"""

from __future__ import annotations

import contextlib
import socket
import socketserver
import sys
import threading
import time
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, cast

from .body import MAX_BODY, BodyError, decode_content
from .model import Push, Refusal, Sample, Span
from .otlp import decode_traces
from .pprof import decode_push
from .rules import RefusedError, SeriesLimit, error_body, require_profiles, require_tenant

PUSH_PATH = "/push.v1.PusherService/Push"


class Receiver:
    """A server that accepts profiles and traces and keeps them in memory. Thread-safe; also a context manager.

    Args:
        host: Address to listen on.
        port: Port to listen on; 0 takes a free one.
        push_status: HTTP status to answer pushes with. Profiles are kept only where it says success.
        push_delay: Seconds to wait before a push is answered.
        tenant: Refuse pushes that are not of this tenant, by ``X-Scope-OrgID`` or the user of basic auth; None asks for none.
        series_limit: Refuse series beyond this number, known ones are still taken; None sets no limit.

    `push_status` and `push_delay` may be changed at any time, to play a server that refuses, fails or hangs.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        push_status: int = 200,
        push_delay: float = 0.0,
        tenant: str | None = None,
        series_limit: int | None = None,
    ) -> None:
        self.push_status = push_status
        self.push_delay = push_delay
        self._tenant = tenant
        self._series_limit = SeriesLimit(series_limit)
        self._address = (host, port)
        self._url: str | None = None
        self._server: _Server | None = None
        # Set by stop(): ends the waits of handlers that play a hanging server.
        self._stopped = threading.Event()
        # Guards the limit and the lists below, which handler threads fill.
        self._lock = threading.Lock()
        self._samples: list[Sample] = []
        self._spans: list[Span] = []
        self._pushes: list[Push] = []
        self._refusals: list[Refusal] = []

    @property
    def url(self) -> str:
        """``http://host:port``: Pyroscope's server address and the OTLP endpoint both. Known from `start` on.

        Raises:
            RuntimeError: the receiver was never started.
        """
        if self._url is None:
            raise RuntimeError("the receiver has no address before start()")
        return self._url

    def start(self) -> None:
        """Listen, and serve in threads of its own.

        Raises:
            OSError: the address can't be had, for instance because the port is in use.
            RuntimeError: the receiver was started before.
        """
        if self._url is not None:
            raise RuntimeError("a receiver starts only once")
        self._server = _Server(self._address, self)
        host, port = self._server.server_address[:2]
        self._url = f"http://{host!s}:{port}"
        threading.Thread(
            # The default poll interval of half a second is what stop() would take.
            target=self._server.serve_forever,
            kwargs={"poll_interval": 0.02},
            name="otel-profiling-receiver",
            daemon=True,
        ).start()

    def stop(self) -> None:
        """Close the port and every connection, without waiting for requests in progress. What arrived stays here."""
        self._stopped.set()
        server, self._server = self._server, None
        if server is not None:
            server.shutdown()
            server.server_close()
            server.close_connections()

    def __enter__(self) -> Receiver:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.stop()

    def samples(self, service_name: str | None = None) -> list[Sample]:
        """Return the samples that arrived so far, of one service or of all."""
        with self._lock:
            return [s for s in self._samples if service_name is None or s.series.get("service_name") == service_name]

    def spans(self, service_name: str | None = None) -> list[Span]:
        """Return the spans that arrived so far, of one service or of all."""
        with self._lock:
            return [s for s in self._spans if service_name is None or s.resource.get("service.name") == service_name]

    def pushes(self) -> list[Push]:
        """Return every push so far, in the order of their arrival, refused ones too."""
        with self._lock:
            return list(self._pushes)

    def refusals(self) -> list[Refusal]:
        """Return every upload so far that was answered with an error, in the order of their arrival."""
        with self._lock:
            return list(self._refusals)

    def _accept_push(self, body: bytes, headers: dict[str, str]) -> None:
        """Keep what a push brings; raises `RefusedError` where an error is the answer, or some of it is not kept."""
        received = time.time()
        refusal: RefusedError | None = None
        series: tuple[dict[str, str], ...] = ()
        try:
            series, profiles, samples = decode_push(body)
            if self.push_status >= HTTPStatus.BAD_REQUEST:
                raise RefusedError(self.push_status, "this receiver was told to refuse")
            require_tenant(headers, self._tenant)
            require_profiles(profiles)
            with self._lock:
                admitted, refusal = self._series_limit.admit(samples)
                self._samples.extend(admitted)
        except RefusedError as error:
            refusal = error
        with self._lock:
            self._pushes.append(Push(received, headers, series, refusal.status if refusal else HTTPStatus.OK))
        # Recorded first: a test of a hanging server can see that the push arrived.
        if self.push_delay > 0:
            self._stopped.wait(self.push_delay)
        if refusal:
            raise refusal

    def _accept_traces(self, body: bytes) -> None:
        spans = decode_traces(body)
        with self._lock:
            self._spans.extend(spans)

    def _refuse(self, refusal: Refusal) -> None:
        with self._lock:
            self._refusals.append(refusal)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    # A test's burst of connections must not be turned away; socketserver's default is 5.
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], receiver: Receiver) -> None:
        self.receiver = receiver
        self._connections: set[socket.socket] = set()
        self._connections_lock = threading.Lock()
        super().__init__(address, _Handler)

    def server_bind(self) -> None:
        # Not HTTPServer's: that asks the resolver for the host's full name, which can take seconds.
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._connections_lock:
            self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._connections_lock:
            self._connections.discard(request)
        super().shutdown_request(request)

    def close_connections(self) -> None:
        """Hang up on every client: a kept-alive connection would otherwise be served after the port is closed."""
        with self._connections_lock:
            for connection in self._connections:
                with contextlib.suppress(OSError):  # the client hung up first
                    connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        # A client that goes away, or our own stop(), is no fault; anything else is ours and shows its traceback.
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Headers and body are written apart: without this, Nagle and delayed ACKs cost 40 ms a request.
    disable_nagle_algorithm = True

    def do_POST(self) -> None:
        receiver = cast(_Server, self.server).receiver
        body = self._read_body()
        if body is None:
            return
        try:
            if self.path == PUSH_PATH:
                receiver._accept_push(self._decode(body), {k.lower(): v for k, v in self.headers.items()})
                self._answer(HTTPStatus.OK, content_type="application/proto")
            elif self.path == "/v1/traces":
                receiver._accept_traces(self._decode(body))
                self._answer(HTTPStatus.OK)
            elif self.path in {"/v1/metrics", "/v1/logs"}:
                self._answer(HTTPStatus.OK)
            else:
                self._refuse(HTTPStatus.NOT_FOUND, f"nothing at {self.path}: profiles go to {PUSH_PATH}")
        except RefusedError as refusal:
            self._refuse(refusal.status, refusal.words)
        except BodyError as error:
            self._refuse(error.status, str(error))

    def do_GET(self) -> None:
        self._complain(HTTPStatus.METHOD_NOT_ALLOWED, "this receiver only takes POST requests")

    def _read_body(self) -> bytes | None:
        """Return the body as sent; where it can't be read, answer, close the connection and return None."""
        try:
            length = int(self.headers.get("content-length", ""))
        except ValueError:
            length = -1
        if length < 0 or length > MAX_BODY:
            self.close_connection = True
            if length < 0:
                self._refuse(HTTPStatus.LENGTH_REQUIRED, "a request needs a content-length")
            else:
                self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"a body may have {MAX_BODY} bytes")
            return None
        return self.rfile.read(length)

    def _decode(self, body: bytes) -> bytes:
        return decode_content(body, self.headers.get("content-encoding", ""))

    def _refuse(self, status: int, words: str) -> None:
        cast(_Server, self.server).receiver._refuse(Refusal(status, words))
        if self.path == PUSH_PATH:
            self._answer(status, error_body(status, words), "application/json")
        else:
            self._complain(status, words)

    def _complain(self, status: int, message: str) -> None:
        self._answer(status, f"{message}\n".encode(), "text/plain; charset=utf-8")

    def _answer(self, status: int, body: bytes = b"", content_type: str = "application/x-protobuf") -> None:
        self.send_response(status)
        self.send_header("content-type", content_type)
        self.send_header("content-length", str(len(body)))
        if self.close_connection:
            self.send_header("connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name of the method that it replaces
        """Say nothing: standard error belongs to the program that embeds the receiver."""
