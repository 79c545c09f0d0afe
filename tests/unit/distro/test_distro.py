"""The distro: upstream's defaults, a resource that says who we are, and no warning about nothing."""

from __future__ import annotations

import os
from collections.abc import Iterator
from importlib.metadata import entry_points, version
from typing import Any

import pytest
from opentelemetry.distro import OpenTelemetryDistro
from opentelemetry.sdk.resources import Resource

from otel_profiling_distro import __version__
from otel_profiling_distro.distro import RESOURCE_ATTRIBUTES, ProfilingDistro, pre_instrument


@pytest.fixture(autouse=True)
def left_as_it_was(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Upstream's base class keeps one instance a process; defaults last as long."""
    monkeypatch.setattr(ProfilingDistro, "_instance", None)
    environ = dict(os.environ)
    yield
    pre_instrument()
    for name in set(os.environ) - set(environ):
        del os.environ[name]


def set_by(distro: Any) -> dict[str, str]:
    """Variables that a distro sets for good, on an environment that has none of them."""
    before = dict(os.environ)
    distro._configure()
    pre_instrument()
    found = {name: value for name, value in os.environ.items() if name not in before}
    for name in found:
        del os.environ[name]
    return found


def test_defaults() -> None:
    """They are upstream's, all of them and nothing else."""
    ours, upstreams = set_by(ProfilingDistro()), set_by(OpenTelemetryDistro())
    assert ours == upstreams
    assert ours["OTEL_TRACES_EXPORTER"] == "otlp"


def test_variables_that_the_user_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """They stay."""
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "console")
    ProfilingDistro()._configure()
    assert os.environ["OTEL_TRACES_EXPORTER"] == "console"


@pytest.mark.parametrize("given", [None, "", "team=a,service.version=1"])
def test_resource(given: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says which distro it is and of which version, beside what the user says; then the environment is as it was."""
    if given is not None:
        monkeypatch.setenv(RESOURCE_ATTRIBUTES, given)
    ProfilingDistro()._configure()
    attributes = Resource.create().attributes
    assert attributes["telemetry.distro.name"] == "otel-profiling-distro"
    assert attributes["telemetry.distro.version"] == __version__
    assert attributes.get("team") == ("a" if given else None)
    pre_instrument()
    assert os.environ.get(RESOURCE_ATTRIBUTES) == given


def test_distro_that_the_user_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the user says wins."""
    monkeypatch.setenv(RESOURCE_ATTRIBUTES, "telemetry.distro.name=mine")
    ProfilingDistro()._configure()
    assert Resource.create().attributes["telemetry.distro.name"] == "mine"


def test_variable_that_somebody_else_sets_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is theirs: it stays."""
    monkeypatch.setenv(RESOURCE_ATTRIBUTES, "team=a")
    ProfilingDistro()._configure()
    monkeypatch.setenv(RESOURCE_ATTRIBUTES, "team=b")
    pre_instrument()
    assert os.environ[RESOURCE_ATTRIBUTES] == "team=b"


def test_entry_points() -> None:
    """`opentelemetry-instrument` finds the distro by its name, and the hook that follows it under any."""
    (distro,) = entry_points(group="opentelemetry_distro", name="profiling")
    assert distro.load() is ProfilingDistro
    (hook,) = entry_points(group="opentelemetry_pre_instrument", name="profiling_distro")
    assert hook.load() is pre_instrument
    assert issubclass(ProfilingDistro, OpenTelemetryDistro)


def test_configurators() -> None:
    """None is ours: upstream warns about each but the first that it finds, and its own does the work."""
    found = {entry_point.dist.name for entry_point in entry_points(group="opentelemetry_configurator") if entry_point.dist}
    assert "opentelemetry-distro" in found
    assert not {name for name in found if name.startswith("otel-profiling")}


def test_version() -> None:
    """The version on the resource is that of the distribution."""
    assert __version__ == version("otel-profiling-distro")
