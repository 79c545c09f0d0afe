"""Every sample carries its request's route, in further servers, workers and libraries that users of Python services have."""

from __future__ import annotations

import signal

import pytest

from .redis_server import arq_client, dramatiq_client, redis, rq_client
from .traffic import (
    DJANGO,
    DJANGO_ASYNC,
    DJANGO_SYNC,
    FLASK,
    GRPC,
    STARLETTE,
    TASKS,
    UVICORN,
    Server,
    assert_routes_have_their_work,
    grpc_client,
)

NO_COMMANDS = {"OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "click"}
"""Else a server that click starts has a span around everything."""
QUART = {
    "alpha": ("GET /alpha", "GET /alpha"),
    "beta": ("GET /beta", "GET /beta"),
    "gamma": ("POST /gamma", "POST /gamma"),
    "delta": ("GET /delta", "GET /delta"),
}
SANIC = {
    "alpha": ("GET /alpha/3", "GET /alpha/<number:int>"),
    "beta": ("GET /beta/b", "GET /beta/<name:str>"),
    "gamma": ("POST /gamma", "POST /gamma"),
    "delta": ("GET /delta", "GET /delta"),
}
ROBYN = {
    "alpha": ("GET /alpha/3", "GET /alpha/:number"),
    "beta": ("GET /beta", "GET /beta"),
    "gamma": ("POST /gamma", "POST /gamma"),
    "delta": ("GET /delta", "GET /delta"),
}
BY_ROUTE = {route: (f"GET /{route}",) * 2 for route in ("alpha", "beta", "gamma", "delta")}
GRANIAN = "-m granian --host 127.0.0.1 --port {port} --log-level warning"
GRANIAN_ASGI = f"{GRANIAN} --interface asgi --loop asyncio --no-ws starlette_app:app"
GRANIAN_WSGI = f"{GRANIAN} --interface wsgi --blocking-threads 8 flask_app:app"
QUART_CLI = "-m quart --app quart_app:app run --host 127.0.0.1 --port {port}"
QUART_ENDS_WITH = (0, 3)
"""3 since 0.23."""
ARQ = "-m arq arq_app.WorkerSettings"
RQ = "-m rq.cli worker --quiet --url redis://127.0.0.1:{port}"
SQLALCHEMY = "sqlalchemy aiosqlite uvicorn opentelemetry.instrumentation.starlette opentelemetry.instrumentation.sqlalchemy"
SQLALCHEMY_APP = f"{UVICORN} --loop asyncio sqlalchemy_app:app"
REDIS_PORT = {"REDIS_PORT": "{port}"}

SERVERS = {
    "granian-asgi": Server(
        "granian starlette opentelemetry.instrumentation.starlette",
        GRANIAN_ASGI,
        STARLETTE,
        environment=NO_COMMANDS,
        leaves_at_once=True,
    ),
    "granian-wsgi": Server(
        "granian flask opentelemetry.instrumentation.flask",
        GRANIAN_WSGI,
        FLASK,
        environment=NO_COMMANDS,
        leaves_at_once=True,
    ),
    "grpc-sync": Server("grpc opentelemetry.instrumentation.grpc", "grpc_sync_app.py {port}", GRPC, grpc_client),
    "waitress": Server(
        "waitress flask opentelemetry.instrumentation.flask",
        "-m waitress --listen 127.0.0.1:{port} --threads 8 flask_app:app",
        FLASK,
    ),
    "daphne": Server(
        "daphne django opentelemetry.instrumentation.django",
        "-m daphne -v 0 -b 127.0.0.1 -p {port} django_asgi:application",
        DJANGO_SYNC | DJANGO_ASYNC,
        environment=DJANGO,
    ),
    "quart": Server(
        "quart opentelemetry.instrumentation.asgi", QUART_CLI, QUART, environment=NO_COMMANDS, ends_with=QUART_ENDS_WITH
    ),
    "quart-hypercorn": Server(
        "quart hypercorn opentelemetry.instrumentation.asgi", "-m hypercorn --bind 127.0.0.1:{port} quart_app:app", QUART
    ),
    "sanic": Server("sanic opentelemetry.instrumentation.sanic", "sanic_app.py {port}", SANIC),
    "robyn": Server("robyn", "robyn_app.py {port}", ROBYN, leaves_at_once=True),
    "sqlalchemy": Server(SQLALCHEMY, SQLALCHEMY_APP, BY_ROUTE, environment=NO_COMMANDS),
    "rq": Server(
        "rq",
        RQ,
        TASKS,
        rq_client,
        environment=NO_COMMANDS,
        beside=redis,
        at_once=False,
        outside=False,
    ),
    "rq-simple": Server(
        "rq",
        f"{RQ} --worker-class rq.SimpleWorker",
        TASKS,
        rq_client,
        environment=NO_COMMANDS,
        beside=redis,
        at_once=False,
        outside=False,
    ),
    "dramatiq": Server(
        "dramatiq",
        "-m dramatiq --processes 1 --threads 8 dramatiq_app",
        TASKS,
        dramatiq_client,
        environment=REDIS_PORT,
        beside=redis,
    ),
    "arq": Server("arq", ARQ, TASKS, arq_client, environment=REDIS_PORT | NO_COMMANDS, beside=redis, stop=signal.SIGTERM),
}

COMMANDS = {
    "granian-asgi": Server(
        "granian starlette opentelemetry.instrumentation.starlette",
        GRANIAN_ASGI,
        STARLETTE,
        span_above="python -m granian",
        leaves_at_once=True,
    ),
    "uvicorn": Server(SQLALCHEMY, SQLALCHEMY_APP, BY_ROUTE, span_above="python -m uvicorn"),
    "quart": Server("quart opentelemetry.instrumentation.asgi", QUART_CLI, QUART, span_above="run", ends_with=QUART_ENDS_WITH),
    "arq": Server(
        "arq",
        ARQ,
        TASKS,
        arq_client,
        environment=REDIS_PORT,
        beside=redis,
        stop=signal.SIGTERM,
        span_above="python -m arq",
    ),
}
"""The same under the span of the command that click starts them by."""

RECYCLED = {"rq"}
"""Each job is a process of its own that ends with it."""


@pytest.mark.parametrize("name", SERVERS)
def test_application(receiver, name):
    """Each sample of a route's work carries the name and the ids of an exported span of that route."""
    share = 0.99 if name in RECYCLED else 1
    assert_routes_have_their_work(SERVERS[name], receiver, share, least=share)


@pytest.mark.parametrize("name", COMMANDS)
def test_application_that_a_command_starts(receiver, name):
    """A request is a unit of work of its own also where the span of a whole command is above it."""
    pytest.importorskip("opentelemetry.instrumentation.click")
    assert_routes_have_their_work(COMMANDS[name], receiver, share=1, least=1)
