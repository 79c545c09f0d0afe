"""Starts a server, sends it requests of several routes at once, and judges the samples of each route's work."""

from __future__ import annotations

import contextlib
import http.client
import importlib
import itertools
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import pytest

from otel_profiling_distro.receiver import Receiver

from .conftest import ACCURACY_SAMPLE_RATE, ACCURACY_SECONDS, APPS, SERVICE, Run, assert_accurate, bin_path, environment
from .servers import free_port, wait_until
from .test_labels import NOTHING

FRAMEWORKS = APPS / "frameworks"
CLIENTS = 8
REQUEST_SECONDS = 0.056
"""CPU time of one request, as the applications' `STEPS` add up."""

UVICORN = "-m uvicorn --host 127.0.0.1 --port {port} --no-access-log --log-level warning"
DJANGO = {"DJANGO_SETTINGS_MODULE": "django_settings"}
DJANGO_SYNC = {"alpha": ("GET /alpha/3", "GET alpha/<int:number>"), "beta": ("GET /beta/a-b", "GET beta/<slug:slug>")}
DJANGO_ASYNC = {"gamma": ("GET /gamma/3", "GET gamma/<int:number>"), "delta": ("GET /delta/a-b", "GET delta/<slug:slug>")}
FLASK = {
    "alpha": ("GET /alpha/3", "GET /alpha/<int:number>"),
    "beta": ("GET /beta/3", "GET /beta/<int:number>"),
    "gamma": ("POST /gamma", "POST /gamma"),
    "delta": ("GET /delta", "GET /delta"),
}
STARLETTE = {
    "alpha": ("GET /alpha/3", "GET /alpha/{number:int}"),
    "beta": ("GET /beta/b", "GET /beta/{name}"),
    "gamma": ("GET /gamma/3", "GET /gamma/{number:int}"),
    "delta": ("GET /delta/b", "GET /delta/{name}"),
}
GRPC = {route: (f"/shop.Shop/{route.capitalize()}",) * 2 for route in ("alpha", "beta", "gamma", "delta")}
TASKS = {route: (route, f"run/{route}") for route in ("alpha", "beta", "gamma", "delta")}

Send = Callable[[str], None]


@contextlib.contextmanager
def http_client(port: int) -> Iterator[Send]:
    """Requests over one connection that is kept alive where the server does so."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)

    def send(request: str) -> None:
        method, _, path = request.partition(" ")
        connection.request(method, path)
        response = connection.getresponse()
        assert response.read()
        assert response.status == 200, request

    with contextlib.closing(connection):
        yield send


@contextlib.contextmanager
def grpc_client(port: int) -> Iterator[Send]:
    grpc = importlib.import_module("grpc")  # installed only where frameworks are tested

    def send(method: str) -> None:
        if method.endswith("Delta"):
            assert len(list(channel.unary_stream(method)(b"", timeout=60))) == 8
        else:
            assert channel.unary_unary(method)(b"", timeout=60)

    # Channels to the same address would share one connection.
    with grpc.insecure_channel(f"127.0.0.1:{port}", options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
        yield send


@dataclass
class Server:
    """A server and what is asked of it."""

    packages: str
    """What must be installed, separated by spaces."""
    command: str
    """Arguments of the interpreter; ``{port}`` stands for a free port."""
    routes: dict[str, tuple[str, str]]
    """For each route (the part after ``busy_`` of its busy function) the request, and the name of its server span."""
    client: Callable[[int], contextlib.AbstractContextManager[Send]] = http_client
    environment: dict[str, str] = field(default_factory=dict)
    """Further variables; ``{port}`` as above."""
    stop: int = signal.SIGINT
    """The signal that ends it."""
    ends_with: tuple[int, ...] = (0,)
    """Its exit codes when it was told to end."""
    beside: Callable[[int], contextlib.AbstractContextManager[object]] = contextlib.nullcontext
    """What must run at the same time and is given the port: a broker listens there, and the server does not."""
    listens: bool = True
    """Whether anything listens at the port; else requests wait for the server in a queue."""
    at_once: bool = True
    """Whether it serves requests at the same time."""
    outside: bool = True
    """Whether it does work beside its requests."""
    request_seconds: float = REQUEST_SECONDS
    """CPU time of one request."""
    leaves_at_once: bool = False
    """Whether its workers leave without `atexit`, so that what the SDK and the agent have not sent yet is lost."""
    span_above: str = ""
    """The name of a span that the whole server is in, which is nobody's request."""


def run_server(server: Server, requests: list[str], receiver: Receiver) -> Run:
    """Start a server under ``opentelemetry-instrument``, send it traffic, stop it and see it end."""
    port = free_port()
    variables = {
        "PYTHONPATH": os.pathsep.join(map(str, (FRAMEWORKS, APPS))),
        "OTEL_PROFILING_SAMPLE_RATE": ACCURACY_SAMPLE_RATE,
        **({"OTEL_BSP_SCHEDULE_DELAY": "300", "OTEL_PROFILING_UPLOAD_INTERVAL": "1s"} if server.leaves_at_once else {}),
        **{name: value.format(port=port) for name, value in server.environment.items()},
    }
    with server.beside(port):
        process = subprocess.Popen(
            [bin_path("opentelemetry-instrument"), sys.executable, *server.command.format(port=port).split()],
            cwd=FRAMEWORKS,
            env=environment(receiver, **variables),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            # A background job of a shell ignores SIGINT, and so would what it starts.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # noqa: PLW1509 - takes no lock
        )
        served = False
        try:
            if server.listens:
                wait_until_listening(port, process)
            send_all(server, port, requests)
            if server.leaves_at_once:
                names = {name for _, name in server.routes.values()}
                wait_until(
                    lambda: sum(span.name in names for span in receiver.spans(SERVICE)) == len(requests), "the requests' spans"
                )
                # The upload that comes next may have begun before the last request's samples were taken.
                sent = len(receiver.pushes())
                wait_until(lambda: len(receiver.pushes()) >= sent + 2, "the requests' samples")
            process.send_signal(server.stop)
            output, errors = process.communicate(timeout=30)
            served = True
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            if not served:
                print(*process.communicate())
    print(output, errors)  # shown by pytest if the test fails
    return Run(process.returncode, output, errors, receiver)


def wait_until_listening(port: int, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            assert process.poll() is None, "the server has ended"
            assert time.monotonic() < deadline, "the server does not listen"
            time.sleep(0.05)
        else:
            return


def send_all(server: Server, port: int, requests: list[str]) -> None:
    """Send the requests from several clients at the same time, each of them one after the other."""
    left, lock = iter(requests), threading.Lock()

    def client() -> None:
        with server.client(port) as send:
            while True:
                with lock:
                    request = next(left, None)
                if request is None:
                    return
                send(request)

    with ThreadPoolExecutor(CLIENTS) as clients:
        for done in [clients.submit(client) for _ in range(CLIENTS)]:
            done.result()


def assert_routes_have_their_work(server: Server, receiver: Receiver, share: float, least: float) -> None:
    """Serve, and see that each route's samples carry the name and the ids of an exported span of that route.

    Args:
        share: At least so many of all samples are right; chance is allowed for, see `assert_accurate`.
        least: At least so many of each route's.
    """
    for package in server.packages.split():
        pytest.importorskip(package)
    count = max(int(ACCURACY_SECONDS / server.request_seconds), len(server.routes))
    requests = list(itertools.islice(itertools.cycle(request for request, _ in server.routes.values()), count))
    app = run_server(server, requests, receiver)
    assert app.exit_code in server.ends_with, f"exit code {app.exit_code}\n{app.errors}"

    if server.span_above:
        assert server.span_above in {span.name for span in app.spans}, "nothing instruments commands"
    # A worker that was sent a task has no server span, it has a consumer's; below another span it may be an internal one.
    local_roots = [
        span
        for span in app.spans
        if span.name != server.span_above
        and (span.kind in (2, 5) or server.span_above)
        and span.attributes.get("pyroscope.profile.id") == span.span_id
    ]
    sent = Counter(requests)
    seen = Counter(span.name for span in local_roots)
    names = Counter(span.name for span in app.spans)
    assert seen == {span: sent[request] for request, span in server.routes.values()}, f"local roots {seen}, all spans {names}"
    if server.at_once:
        edges = sorted([(span.start_ns, 1) for span in local_roots] + [(span.end_ns, -1) for span in local_roots])
        assert max(itertools.accumulate(change for _, change in edges)) >= 2, "requests were served at the same time"

    groups = [
        (
            app.samples_of(f"busy_{route}"),
            [
                {"span_id": span.span_id, "trace_id": span.trace_id, "span_name": span.name}
                for span in local_roots
                if span.name == span_name
            ],
        )
        for route, (_, span_name) in server.routes.items()
    ]
    assert_accurate(groups, share, least, chance=True)
    if server.outside:
        around = [{"span_name": server.span_above}] if server.span_above else []
        assert_accurate([(app.samples_of("busy_outside"), [NOTHING, *around])], 0.99, chance=True)
