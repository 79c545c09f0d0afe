"""Fixtures of the configurator's unit tests: no native agent runs here, and no global provider outlives its test."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Callable, Iterator

import pytest
from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.util._once import Once
from otel_profiling_configurator import deactivate
from otel_profiling_configurator import native as native_module
from otel_profiling_configurator.context import following as following_module
from otel_profiling_configurator.context import labelling
from otel_profiling_configurator.native import why_missing
from otel_profiling_configurator.spans import tracer_provider

from .fakes import Pyroscope, Tags, skip_if_pure


@pytest.fixture(autouse=True)
def form_is_meant(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where modules in C were left out on purpose, no warning of it is wanted among those that a test looks at."""
    monkeypatch.setattr(native_module, "is_missing_here", lambda: False)


@pytest.fixture
def writer() -> Iterator[Tags]:
    """Labels are written here; in the end every one must have been removed by the exact pair, none added twice."""
    tags = Tags()
    undo = labelling.install(tags)
    yield tags
    undo()
    assert tags.mistakes == []
    assert tags.left() == []


@pytest.fixture(params=["native", "python"])
def form(request: pytest.FixtureRequest) -> str:
    """Who follows switches. What is promised for both is held to the same tests."""
    if request.param == "native":
        skip_if_pure(request)
        assert not why_missing, why_missing
    return str(request.param)


@pytest.fixture
def following(form: str, writer: Tags) -> Iterator[Tags]:
    """Labels follow each switch, by thread: the fake agent is none whose library could be led to aliases."""
    with pytest.MonkeyPatch.context() as patch:
        if form == "python":
            patch.setattr(following_module, "why_missing", "left out by the test")
        undo, why_python = following_module.install()
        assert bool(why_python) is (form == "python"), why_python
        labelling.agent_started(writer, aliases=True)
        yield writer
        undo()


@pytest.fixture
def following_natively(request: pytest.FixtureRequest, writer: Tags) -> Iterator[Tags]:
    """The same by the native module, for what is followed by that alone."""
    skip_if_pure(request)
    undo, why_python = following_module.install()
    assert not why_python
    labelling.agent_started(writer, aliases=True)
    yield writer
    undo()


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def sdk_provider(exporter: InMemorySpanExporter) -> TracerProvider:
    provider = TracerProvider(resource=Resource({"service.name": "shop"}), shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return provider


@pytest.fixture
def renames_are_unfollowed() -> Iterator[None]:
    """A provider that is wrapped without being installed leaves `update_name` of its spans' classes to us."""
    yield
    tracer_provider.install(trace.NoOpTracerProvider())()


@pytest.fixture
def no_global_provider() -> Iterator[pytest.MonkeyPatch]:
    """The process has not set its tracer provider yet."""
    # Not the fixture `monkeypatch`: this must be over before the process is checked for what was left behind.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trace, "_TRACER_PROVIDER", None)
        patch.setattr(trace, "_TRACER_PROVIDER_SET_ONCE", Once())
        yield patch
        deactivate()


@pytest.fixture
def global_provider(no_global_provider: pytest.MonkeyPatch, sdk_provider: TracerProvider) -> TracerProvider:
    """The process has set an SDK provider."""
    assert no_global_provider
    trace.set_tracer_provider(sdk_provider)
    return sdk_provider


@pytest.fixture
def pyroscope(monkeypatch: pytest.MonkeyPatch) -> Iterator[Pyroscope]:
    module = Pyroscope()
    monkeypatch.setitem(sys.modules, "pyroscope", module)
    level = logging.getLogger("pyroscope").level
    with warnings.catch_warnings():  # the agent adds a filter, for the process
        yield module
        deactivate()
    logging.getLogger("pyroscope").setLevel(level)
    assert module.tags.mistakes == []


@pytest.fixture
def warned(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """What has been warned of so far."""

    def messages() -> list[str]:
        return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]

    return messages
