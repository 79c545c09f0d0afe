"""Samples carry the server span of the request that was running, in real servers with upstream's instrumentations of them."""

from __future__ import annotations

import contextlib
import importlib
import signal
import sys
from collections.abc import Iterator

import pytest

from .conftest import APPS
from .traffic import (
    DJANGO,
    DJANGO_ASYNC,
    DJANGO_SYNC,
    FLASK,
    FRAMEWORKS,
    GRPC,
    STARLETTE,
    TASKS,
    UVICORN,
    Send,
    Server,
    assert_routes_have_their_work,
    grpc_client,
)

SHARE, LEAST = 0.98, 0.9
"""Right samples of an application, and of each route."""


@contextlib.contextmanager
def celery_client(_port: int) -> Iterator[Send]:
    """Sends a task as an application does that knows nothing of tracing, and waits for its result."""
    celery_app = importlib.import_module("celery_app")

    yield lambda task: celery_app.app.send_task(task).get(timeout=30, interval=0.02)


CELERY = (
    "-m celery -A celery_app worker --concurrency 8 --loglevel warning --without-gossip --without-mingle --without-heartbeat"
)
FASTAPI_ASYNC = {"alpha": ("GET /alpha/3", "GET /alpha/{number}"), "beta": ("GET /beta/b", "GET /beta/{name}")}
FASTAPI_DEF = {"gamma": ("GET /gamma/3", "GET /gamma/{number}"), "delta": ("GET /delta/b", "GET /delta/{name}")}

SERVERS = {
    "flask": Server(
        "flask opentelemetry.instrumentation.flask",
        "flask_app.py {port}",
        FLASK,
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
        STARLETTE,
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
        GRPC,
        grpc_client,
    ),
    "celery-threads": Server(
        "celery opentelemetry.instrumentation.celery",
        f"{CELERY} --pool threads",
        TASKS,
        celery_client,
        stop=signal.SIGTERM,
        listens=False,
    ),
    "celery-gevent": Server(
        "celery gevent opentelemetry.instrumentation.celery",
        f"{CELERY} --pool gevent",
        TASKS,
        celery_client,
        stop=signal.SIGTERM,
        listens=False,
    ),
}


@pytest.fixture(autouse=True)
def celery_folder(tmp_path, monkeypatch):
    """Where Celery's broker and results are, and what the client knows of the tasks."""
    for folder in ("queue", "control", "results"):
        (tmp_path / folder).mkdir()
    monkeypatch.setenv("CELERY_FOLDER", str(tmp_path))
    monkeypatch.delitem(sys.modules, "celery_app", raising=False)  # knows the folder of the test before
    monkeypatch.syspath_prepend(str(APPS))
    monkeypatch.syspath_prepend(str(FRAMEWORKS))


@pytest.mark.parametrize("name", SERVERS)
def test_server(receiver, name):
    """Every route's samples carry the name and the ids of an exported server span of that route."""
    assert_routes_have_their_work(SERVERS[name], receiver, SHARE, LEAST)
