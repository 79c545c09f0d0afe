"""Workers of process pools begin outside of the span that they were forked in; other processes keep it."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing.pool import ThreadPool
from typing import Any

import pytest
from opentelemetry import baggage
from opentelemetry.context import attach, detach
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import get_current_span
from otel_profiling_configurator.context import forked_pools

Seen = tuple[str | None, object]

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing forks here"),
    # Python 3.12 and later say so of threads that pytest's timeout and others keep.
    pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning"),
]


def seen() -> Seen:
    """What is current where a job runs: the name of its span, and its baggage."""
    return getattr(get_current_span(), "name", None), baggage.get_baggage("tenant")


def seen_by_a_child() -> Seen:
    """What is current in a process that a job makes for itself, inside a span of its own."""
    with tracer().start_as_current_span("job"):
        return in_a_process()


def tracer() -> Any:
    return TracerProvider(shutdown_on_exit=False).get_tracer("test")


def in_a_process() -> Seen:
    forking = multiprocessing.get_context("fork")
    receiving, sending = forking.Pipe()
    process = forking.Process(target=_send, args=(sending,))
    process.start()
    received: Seen = receiving.recv()
    process.join()
    return received


def _send(sending: Any) -> None:
    sending.send(seen())


def in_an_executor(job: Callable[[], Seen], method: str = "fork") -> Seen:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context(method)) as pool:
        return pool.submit(job).result(60)


def in_a_pool(job: Callable[[], Seen], method: str = "fork") -> Seen:
    with multiprocessing.get_context(method).Pool(1) as pool:
        return pool.apply(job)


POOLS = [in_an_executor, in_a_pool]


@pytest.fixture
def installed() -> Iterator[None]:
    undo = forked_pools.install()
    yield
    undo()


@pytest.fixture
def request_span() -> Iterator[None]:
    """A request is being handled, with baggage."""
    token = attach(baggage.set_baggage("tenant", "acme"))
    with tracer().start_as_current_span("GET /"):
        yield
    detach(token)


@pytest.mark.usefixtures("installed", "request_span")
@pytest.mark.parametrize("pool", POOLS)
def test_worker_forked_in_a_request(pool: Any) -> None:
    """It has no span and no baggage of the request's; the request goes on with both."""
    assert pool(seen) == (None, None)
    assert seen() == ("GET /", "acme")


@pytest.mark.usefixtures("installed", "request_span")
def test_process_forked_in_a_request() -> None:
    """It was made for that request, and keeps its context."""
    assert in_a_process() == ("GET /", "acme")


@pytest.mark.usefixtures("installed", "request_span")
def test_process_made_by_a_job() -> None:
    """It keeps the job's context."""
    assert in_an_executor(seen_by_a_child) == ("job", None)


@pytest.mark.usefixtures("installed", "request_span")
def test_worker_that_replaces_another() -> None:
    """It has no span either."""
    with multiprocessing.get_context("fork").Pool(1, maxtasksperchild=1) as pool:
        assert [pool.apply(seen) for _ in range(3)] == [(None, None)] * 3


@pytest.mark.usefixtures("installed", "request_span")
@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_worker_that_is_not_forked(pool: Any, method: str) -> None:
    """It works as ever: what is pickled for it is the application's own."""
    assert pool(seen, method) == (None, None)


@pytest.mark.usefixtures("installed", "request_span")
def test_pools_of_threads() -> None:
    """They are none of ours: their threads have the context that Python gives them."""
    with ThreadPool(1) as pool, ThreadPoolExecutor(1) as executor:
        assert pool.apply(seen) == executor.submit(seen).result(60)
    assert seen() == ("GET /", "acme")


@pytest.mark.usefixtures("request_span")
@pytest.mark.parametrize("pool", POOLS)
def test_undone(pool: Any) -> None:
    """Workers are as they were without us."""
    forked_pools.install()()
    assert pool(seen) == ("GET /", "acme")
