"""What all tests share: failures of ours are seen, and the process is left as it was found."""

import asyncio
import logging
import os
import signal

import opentelemetry.context as context_api
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import Span, Tracer
from otel_profiling_configurator import deactivate, guard, log

from .c_functions import all_functions


def pytest_addoption(parser):
    parser.addoption("--spans", type=int, default=100_000, help="how many spans test_many_spans makes")
    parser.addoption("--pure", action="store_true", help="modules in C were left out on purpose")
    parser.addoption("--daemons", type=int, default=60, help="how many daemons test_daemons.py makes; 10000 before a release")
    parser.addoption(
        "--stops", type=int, default=100, help="how often test_outside.py stops each application; 2000 for a proof"
    )
    parser.addoption("--forks", type=int, default=40, help="how often test_fork_under_fire.py forks")


@pytest.fixture
def stops(request):
    return request.config.getoption("--stops")


@pytest.fixture(autouse=True)
def failures_are_seen(monkeypatch):
    """Guards re-raise, and what one test reported another may report again."""
    monkeypatch.setattr(guard, "reraise", True)
    monkeypatch.setattr(guard, "_reported", set())


@pytest.fixture(autouse=True)
def clean_process():
    """Everything that we replace in a process is the original again after each test."""
    for name in [name for name in os.environ if name.startswith(("OTEL_", "PYROSCOPE_"))]:
        del os.environ[name]
    before = _patched()
    yield
    deactivate()
    assert _patched() == before
    log.logger.handlers.clear()
    log.logger.setLevel(logging.NOTSET)


def _patched():
    return (
        context_api._RUNTIME_CONTEXT,
        context_api.get_current,
        context_api.attach,
        context_api.detach,
        trace._TRACER_PROVIDER,
        trace.get_current_span,
        trace._set_tracer_provider,
        vars(Tracer)["start_span"],
        vars(Span)["update_name"],
        vars(trace.NonRecordingSpan)["update_name"],
        signal.raise_signal,
        asyncio.Handle._run,
        all_functions(),
    )
