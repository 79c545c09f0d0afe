"""Plays Pyroscope and an OpenTelemetry collector, so that what an application really sends can be looked at: by the commands
of `otel-profiling` on an engineer's own machine, and by the integration tests.

It speaks as much of both protocols as agents and exporters use: Pyroscope's push API and OTLP over HTTP, in protobuf.
It refuses what a real Pyroscope refuses, see `rules`, and remembers what it refused.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Iterable, Sequence
from types import TracebackType

import uvicorn
from starlette.routing import BaseRoute
from starlette.types import ASGIApp

from .application import application
from .intake import Intake
from .model import Push, Refusal, Sample, Span
from .origin import Origins
from .store import Bounds, Store

_BACKLOG = 128
"""Connections that wait: a burst of fifty applications at once must not be turned away."""

_START_SECONDS = 30.0


class Receiver:
    """A server that accepts profiles and traces and keeps them in memory. Thread-safe; also a context manager.

    Args:
        host: Address to listen on.
        port: Port to listen on; 0 takes a free one.
        more_ports: Further ports, on which the same is answered.
        push_status: HTTP status to answer pushes with. Profiles are kept only where it says success.
        push_delay: Seconds to wait before a push is answered.
        tenant: Refuse pushes that are not of this tenant, by ``X-Scope-OrgID`` or the user of basic auth; None asks for none.
        series_limit: Refuse series beyond this number, known ones are still taken; None sets no limit.
        bounds: How much is kept, the oldest goes first; None keeps everything.
        hosts: Names of this machine that requests may use, besides addresses and ``localhost``.
        remembered: How many of the last pushes and refusals are remembered; None: all.

    `push_status` and `push_delay` may be changed at any time, to play a server that refuses, fails or hangs.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        more_ports: Iterable[int] = (),
        push_status: int = 200,
        push_delay: float = 0.0,
        tenant: str | None = None,
        series_limit: int | None = None,
        bounds: Bounds | None = None,
        hosts: Iterable[str] = (),
        remembered: int | None = None,
    ) -> None:
        self.push_delay = push_delay
        self.store = Store(bounds)
        self._intake = Intake(self.store, push_status, tenant, series_limit, remembered)
        self._origins = Origins.of(hosts)
        self._addresses = [(host, port), *((host, more) for more in more_ports)]
        self._urls: list[str] = []
        self._sockets: list[socket.socket] = []
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None

    @property
    def push_status(self) -> int:
        """HTTP status that pushes are answered with."""
        return self._intake.push_status

    @push_status.setter
    def push_status(self, status: int) -> None:
        self._intake.push_status = status

    @property
    def url(self) -> str:
        """``http://host:port``: Pyroscope's server address and the OTLP endpoint both. Known from `start` on.

        Raises:
            RuntimeError: the receiver was never started.
        """
        if not self._urls:
            raise RuntimeError("the receiver has no address before start()")
        return self._urls[0]

    @property
    def urls(self) -> list[str]:
        """The URL of each port, in the order in which they were given; empty before `start`."""
        return list(self._urls)

    def start(self, pages: Sequence[BaseRoute] = ()) -> None:
        """Listen, and serve in a thread of its own.

        Args:
            pages: Routes for browsers, to be answered too.

        Raises:
            OSError: an address can't be had, for instance because a port is in use; `filename` says which.
            RuntimeError: the receiver was started before.
        """
        if self._urls:
            raise RuntimeError("a receiver starts only once")
        try:
            for host, port in self._addresses:
                self._sockets.append(_listener(host, port))
        except OSError:
            self._close_sockets()
            raise
        self._urls = [_url(listener) for listener in self._sockets]
        server = self._server = _Server(application(self._intake, self._wait, self._origins, pages))
        self._thread = threading.Thread(
            target=server.run_until_stopped, args=(self._sockets,), name="otel-profiling-receiver", daemon=True
        )
        self._thread.start()
        if not server.is_ready.wait(_START_SECONDS) or not server.started:
            self.stop()
            raise OSError("the server did not start")

    def stop(self) -> None:
        """Close the ports and every connection, without waiting for requests in progress. What arrived stays here."""
        server, self._server = self._server, None
        if server is not None and self._thread is not None:
            server.stop()
            self._thread.join()
        self._close_sockets()

    def _close_sockets(self) -> None:
        while self._sockets:
            self._sockets.pop().close()

    def __enter__(self) -> Receiver:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.stop()

    def samples(self, service_name: str | None = None) -> list[Sample]:
        """Return the samples that arrived so far and are kept, of one service or of all."""
        return self.store.samples(service_name)

    def spans(self, service_name: str | None = None) -> list[Span]:
        """Return the spans that arrived so far and are kept, of one service or of all."""
        return self.store.spans(service_name)

    def pushes(self) -> list[Push]:
        """Return every push so far, in the order of their arrival, refused ones too."""
        return self._intake.pushes()

    def refusals(self) -> list[Refusal]:
        """Return every upload so far that was answered with an error, in the order of their arrival."""
        return self._intake.refusals()

    async def _wait(self) -> None:
        if self.push_delay > 0:
            await asyncio.sleep(self.push_delay)  # stop() cancels it


class _Server(uvicorn.Server):
    """uvicorn's server, in any thread, that can be stopped at once from any other."""

    def __init__(self, app: ASGIApp) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                # Nothing is said: standard error belongs to the program that embeds the receiver.
                log_config=None,
                log_level="critical",
                access_log=False,
                loop="asyncio",
                # The pure implementation, whatever is installed: tests see the same as users.
                http="h11",
                ws="none",
                lifespan="off",
                server_header=False,
                # No time-out of a client's idle connection: agents keep theirs for the time between two uploads.
                timeout_keep_alive=300,
            )
        )
        self.is_ready = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._serving: asyncio.Task[None] | None = None

    def run_until_stopped(self, sockets: list[socket.socket]) -> None:
        """Serve; what a thread does."""
        try:
            with contextlib.suppress(asyncio.CancelledError):
                asyncio.run(self._run(sockets))
        finally:
            self.is_ready.set()

    async def _run(self, sockets: list[socket.socket]) -> None:
        self._loop = asyncio.get_running_loop()
        self._serving = asyncio.ensure_future(self.serve(sockets))
        await self._serving

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen, and say so."""
        await super().startup(sockets)
        self.is_ready.set()

    def stop(self) -> None:
        """End every connection and then serving; from another thread."""
        loop = self._loop
        if loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended by itself
                loop.call_soon_threadsafe(self._end)

    def _end(self) -> None:
        for connection in list(self.server_state.connections):
            # A kept-alive connection would otherwise be served after the port is closed.
            transport = getattr(connection, "transport", None)
            if transport is not None:
                transport.abort()
        for task in list(self.server_state.tasks):
            task.cancel()
        for server in self.servers:
            server.close()
        if self._serving is not None:
            self._serving.cancel()


def _listener(host: str, port: int) -> socket.socket:
    try:
        return socket.create_server((host, port), family=_family(host), backlog=_BACKLOG)
    except OSError as error:
        # `create_server` puts the address behind the reason, in words of its own.
        words = (error.strerror or str(error)).partition(" (while")[0]
        raise OSError(error.errno, words, f"{host}:{port}") from error


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
