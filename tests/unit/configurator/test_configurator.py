"""The two ways in under `opentelemetry-instrument`: whichever comes first, the outcome is the same."""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk._configuration import _OTelSDKConfigurator
from opentelemetry.sdk.trace import TracerProvider
from otel_profiling_configurator import ProfilingTracerProvider, configurator, deactivate
from otel_profiling_configurator.configurator import ProfilingConfigurator, pre_instrument

from .fakes import Pyroscope


@pytest.fixture
def configured(
    no_global_provider: pytest.MonkeyPatch, monkeypatch: pytest.MonkeyPatch, sdk_provider: TracerProvider
) -> list[dict[str, Any]]:
    """Arguments of each call of the SDK's own configurator, which sets a provider as the real one does."""
    assert no_global_provider
    calls: list[dict[str, Any]] = []

    def configure(_self: object, **kwargs: Any) -> None:
        calls.append(kwargs)
        trace.set_tracer_provider(sdk_provider)

    monkeypatch.setattr(_OTelSDKConfigurator, "_configure", configure)
    monkeypatch.setattr(ProfilingConfigurator, "_instance", None)
    return calls


def ours() -> None:
    ProfilingConfigurator().configure(sampler="theirs")  # type: ignore[no-untyped-call]


def theirs() -> None:
    _OTelSDKConfigurator._configure(object())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "steps",
    [
        (ours,),
        (ours, pre_instrument),
        (theirs, pre_instrument),
        (pre_instrument, theirs),
        (pre_instrument, ours),
        (ours, pre_instrument, pre_instrument),
    ],
    ids=lambda steps: ", ".join(step.__name__ for step in steps),
)
def test_ways_in(
    steps: tuple[Any, ...], configured: list[dict[str, Any]], sdk_provider: TracerProvider, pyroscope: Pyroscope
) -> None:
    """One agent and one wrapping, whoever configures the SDK and in whatever order."""
    for step in steps:
        step()
    provider: Any = trace.get_tracer_provider()
    assert type(provider) is ProfilingTracerProvider
    assert type(provider.__wrapped__) is TracerProvider
    assert provider.__wrapped__ is sdk_provider
    assert len(pyroscope.agents) == 1
    assert len(configured) == 1
    deactivate()
    assert trace.get_tracer_provider() is sdk_provider


def test_arguments(configured: list[dict[str, Any]], pyroscope: Pyroscope) -> None:
    """A distro's own, made from ours, has its arguments reach the SDK."""
    ours()
    assert configured == [{"sampler": "theirs"}]
    assert pyroscope.running


def test_sdk_that_can_not_be_configured(monkeypatch: pytest.MonkeyPatch, pyroscope: Pyroscope) -> None:
    """The failure is upstream's to report, as it is without us; no agent starts."""

    def fail(_self: object, **_kwargs: Any) -> None:
        raise LookupError("no such exporter")

    monkeypatch.setattr(_OTelSDKConfigurator, "_configure", fail)
    monkeypatch.setattr(ProfilingConfigurator, "_instance", None)
    with pytest.raises(LookupError, match="no such exporter"):
        ours()
    assert pyroscope.agents == []


def test_entry_point() -> None:
    """`opentelemetry-instrument` runs the hook, whichever configurator it has taken."""
    (entry_point,) = entry_points(group="opentelemetry_pre_instrument", name="profiling")
    assert entry_point.load() is configurator.pre_instrument
