"""Samples carry the server span of the request that was running, in real servers with upstream's instrumentations of them."""

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

from .conftest import ACCURACY_SAMPLE_RATE, ACCURACY_SECONDS, APPS, Run, assert_accurate, bin_path, environment
from .servers import free_port
from .test_labels import NOTHING

FRAMEWORKS = APPS / "frameworks"
CLIENTS = 8
REQUEST_SECONDS = 0.056
"""CPU time of one request, as the applications' `STEPS` add up."""
SHARE, LEAST = 0.98, 0.9
"""Right samples of an application, and of each route."""

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


@contextlib.contextmanager
def celery_client(_port: int) -> Iterator[Send]:
    """Sends a task as an application does that knows nothing of tracing, and waits for its result."""
    celery_app = importlib.import_module("celery_app")

    yield lambda task: celery_app.app.send_task(task).get(timeout=30, interval=0.02)


@dataclass
class Server:
    """A server and what is asked of it."""

    packages: str
    """What must be installed, separated by spaces."""
    command: str
    """Arguments of the interpreter."""
    routes: dict[str, tuple[str, str]]
    """For each route (the part after ``busy_`` of its busy function) the request, and the name of its server span."""
    client: Callable[[int], contextlib.AbstractContextManager[Send]] = http_client
    environment: dict[str, str] = field(default_factory=dict)
    stop: int = signal.SIGINT
    """What ends it with exit code 0."""


UVICORN = "-m uvicorn --host 127.0.0.1 --port {port} --no-access-log --log-level warning"
CELERY = (
    "-m celery -A celery_app worker --concurrency 8 --loglevel warning --without-gossip --without-mingle --without-heartbeat"
)
DJANGO = {"DJANGO_SETTINGS_MODULE": "django_settings"}
DJANGO_SYNC = {"alpha": ("GET /alpha/3", "GET alpha/<int:number>"), "beta": ("GET /beta/a-b", "GET beta/<slug:slug>")}
DJANGO_ASYNC = {"gamma": ("GET /gamma/3", "GET gamma/<int:number>"), "delta": ("GET /delta/a-b", "GET delta/<slug:slug>")}
FASTAPI_ASYNC = {"alpha": ("GET /alpha/3", "GET /alpha/{number}"), "beta": ("GET /beta/b", "GET /beta/{name}")}
FASTAPI_DEF = {"gamma": ("GET /gamma/3", "GET /gamma/{number}"), "delta": ("GET /delta/b", "GET /delta/{name}")}

SERVERS = {
    "flask": Server(
        "flask opentelemetry.instrumentation.flask",
        "flask_app.py {port}",
        {
            "alpha": ("GET /alpha/3", "GET /alpha/<int:number>"),
            "beta": ("GET /beta/3", "GET /beta/<int:number>"),
            "gamma": ("POST /gamma", "POST /gamma"),
            "delta": ("GET /delta", "GET /delta"),
        },
    ),
    "django": Server(
        "django opentelemetry.instrumentation.django", "-m django runserver --noreload {port}", DJANGO_SYNC, environment=DJANGO
    ),
    "django-async": Server(
        "django uvicorn opentelemetry.instrumentation.django",
        f"{UVICORN} --loop asyncio --factory django.core.asgi:get_asgi_application",
        DJANGO_ASYNC,
        environment=DJANGO,
    ),
    "django-mixed": Server(
        "django uvicorn opentelemetry.instrumentation.django",
        f"{UVICORN} --loop asyncio --factory django.core.asgi:get_asgi_application",
        DJANGO_SYNC | DJANGO_ASYNC,
        environment=DJANGO,
    ),
    "fastapi-asyncio": Server(
        "fastapi uvicorn opentelemetry.instrumentation.fastapi", f"{UVICORN} --loop asyncio fastapi_app:app", FASTAPI_ASYNC
    ),
    "fastapi-def-asyncio": Server(
        "fastapi uvicorn opentelemetry.instrumentation.fastapi", f"{UVICORN} --loop asyncio fastapi_app:app", FASTAPI_DEF
    ),
    "fastapi-uvloop": Server(
        "fastapi uvicorn uvloop opentelemetry.instrumentation.fastapi",
        f"{UVICORN} --loop uvloop fastapi_app:app",
        FASTAPI_ASYNC,
    ),
    "fastapi-def-uvloop": Server(
        "fastapi uvicorn uvloop opentelemetry.instrumentation.fastapi", f"{UVICORN} --loop uvloop fastapi_app:app", FASTAPI_DEF
    ),
    "starlette": Server(
        "starlette uvicorn opentelemetry.instrumentation.starlette",
        f"{UVICORN} --loop asyncio starlette_app:app",
        {
            "alpha": ("GET /alpha/3", "GET /alpha/{number:int}"),
            "beta": ("GET /beta/b", "GET /beta/{name}"),
            "gamma": ("GET /gamma/3", "GET /gamma/{number:int}"),
            "delta": ("GET /delta/b", "GET /delta/{name}"),
        },
    ),
    "aiohttp": Server(
        "aiohttp opentelemetry.instrumentation.aiohttp_server",
        "aiohttp_app.py {port}",
        {
            "alpha": ("GET /alpha/3", "GET /alpha/{number}"),
            "beta": ("GET /beta/b", "GET /beta/{name}"),
            "gamma": ("GET /gamma", "GET /gamma"),
            "delta": ("GET /delta", "GET /delta"),
        },
    ),
    "tornado": Server(
        "tornado opentelemetry.instrumentation.tornado",
        "tornado_app.py {port}",
        {
            "alpha": ("GET /alpha/3", "GET /alpha/{number}"),
            "beta": ("GET /beta", "GET /beta"),
            "gamma": ("POST /gamma", "POST /gamma"),
            "delta": ("GET /delta", "GET /delta"),
        },
    ),
    "grpc": Server(
        "grpc opentelemetry.instrumentation.grpc",
        "grpc_app.py {port}",
        {route: (f"/shop.Shop/{route.capitalize()}",) * 2 for route in ("alpha", "beta", "gamma", "delta")},
        grpc_client,
    ),
    "celery-threads": Server(
        "celery opentelemetry.instrumentation.celery",
        f"{CELERY} --pool threads",
        {route: (route, f"run/{route}") for route in ("alpha", "beta", "gamma", "delta")},
        celery_client,
        stop=signal.SIGTERM,
    ),
    "celery-gevent": Server(
        "celery gevent opentelemetry.instrumentation.celery",
        f"{CELERY} --pool gevent",
        {route: (route, f"run/{route}") for route in ("alpha", "beta", "gamma", "delta")},
        celery_client,
        stop=signal.SIGTERM,
    ),
}


@pytest.fixture
def serve(receiver: Receiver, tmp_path, monkeypatch):
    """Start a server under ``opentelemetry-instrument``, send it traffic, stop it and see it end."""
    for folder in ("queue", "control", "results"):
        (tmp_path / folder).mkdir()
    monkeypatch.setenv("CELERY_FOLDER", str(tmp_path))
    monkeypatch.delitem(sys.modules, "celery_app", raising=False)  # knows the folder of the test before
    monkeypatch.syspath_prepend(str(APPS))
    monkeypatch.syspath_prepend(str(FRAMEWORKS))  # of the tasks' definitions, for the client
    # A background job of a shell ignores SIGINT, and so would what it starts; a handler is not inherited.
    ignored = signal.signal(signal.SIGINT, signal.default_int_handler)

    def serve(server: Server, requests: list[str]) -> Run:
        port = free_port()
        variables = {
            "PYTHONPATH": os.pathsep.join(map(str, (FRAMEWORKS, APPS))),
            "OTEL_PROFILING_SAMPLE_RATE": ACCURACY_SAMPLE_RATE,
            **server.environment,
        }
        process = subprocess.Popen(
            [bin_path("opentelemetry-instrument"), sys.executable, *server.command.format(port=port).split()],
            cwd=FRAMEWORKS,
            env=environment(receiver, **variables),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        served = False
        try:
            if server.client is not celery_client:  # its tasks wait for the worker in their queue
                wait_until_listening(port, process)
            send_all(server, port, requests)
            process.send_signal(server.stop)
            output, errors = process.communicate(timeout=30)
            served = True
        finally:
            process.kill()
            if not served:
                print(*process.communicate())
        print(output, errors)  # shown by pytest if the test fails
        return Run(process.returncode, output, errors, receiver)

    yield serve
    signal.signal(signal.SIGINT, ignored)


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


@pytest.mark.parametrize("name", SERVERS)
def test_server(serve, name):
    """Every route's samples carry the name and the ids of an exported server span of that route."""
    server = SERVERS[name]
    for package in server.packages.split():
        pytest.importorskip(package)
    count = int(ACCURACY_SECONDS / REQUEST_SECONDS)
    requests = list(itertools.islice(itertools.cycle(request for request, _ in server.routes.values()), count))
    app = serve(server, requests)
    assert app.exit_code == 0, app.errors

    # A worker that was sent a task has no server span, it has a consumer's.
    local_roots = [
        span for span in app.spans if span.kind in (2, 5) and span.attributes["pyroscope.profile.id"] == span.span_id
    ]
    sent = Counter(requests)
    assert Counter(span.name for span in local_roots) == {span: sent[request] for request, span in server.routes.values()}
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
    assert_accurate(groups, SHARE, LEAST, chance=True)
    outside = app.samples_of("busy_outside")
    assert_accurate([(outside, NOTHING)], 0.99, chance=True)
