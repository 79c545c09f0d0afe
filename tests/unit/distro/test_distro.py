"""The distro: upstream's defaults, a resource that says who we are, and no warning about nothing."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from importlib.metadata import entry_points, version
from typing import Any

import pytest
from opentelemetry.distro import OpenTelemetryDistro
from opentelemetry.sdk._configuration import _OTelSDKConfigurator
from otel_profiling_configurator import configurator
from otel_profiling_configurator.configurator import ProfilingConfigurator

from otel_profiling_distro import __version__
from otel_profiling_distro.distro import ProfilingDistro, ProfilingDistroConfigurator

LOADER = "opentelemetry.instrumentation.auto_instrumentation._load"
NOT_LOADED = "Configuration of %s not loaded, %s already loaded"


@pytest.fixture(autouse=True)
def left_as_it_was(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Upstream's base classes keep one instance a process; filters and defaults last as long."""
    monkeypatch.setattr(ProfilingDistro, "_instance", None)
    monkeypatch.setattr(ProfilingDistroConfigurator, "_instance", None)
    logger = logging.getLogger(LOADER)
    filters = list(logger.filters)
    environ = dict(os.environ)
    yield
    logger.filters[:] = filters
    for name in set(os.environ) - set(environ):
        del os.environ[name]


@pytest.fixture
def configured(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, Any]]]:
    """What happened, in order: the SDK's own configuration with its arguments, and our start."""
    events: list[tuple[str, dict[str, Any]]] = []
    monkeypatch.setattr(_OTelSDKConfigurator, "_configure", lambda _self, **kwargs: events.append(("sdk", kwargs)))
    monkeypatch.setattr(configurator, "activate", lambda: events.append(("profiling", {})))
    return events


def configure(**kwargs: Any) -> None:
    ProfilingDistroConfigurator().configure(**kwargs)  # type: ignore[no-untyped-call]


def set_by(distro: Any) -> dict[str, str]:
    """Variables that a distro sets, on an environment that has none of them."""
    before = dict(os.environ)
    distro._configure()
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


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (("configurator", "profiling"), False),
        (("profiling", "configurator"), False),
        (("configurator", "vendor"), True),
        (("vendor", "profiling"), True),
        (("profiling", "profiling"), True),
    ],
)
def test_configurator_passed_over(arguments: tuple[str, str], shown: bool, caplog: pytest.LogCaptureFixture) -> None:
    """Upstream's is always installed with ours, so that it is not taken is no news; about anybody else's, it is."""
    ProfilingDistro()._configure()
    logging.getLogger(LOADER).warning(NOT_LOADED, *arguments)
    assert len(caplog.records) == shown


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (("configurator", "profiling", "OTEL_PYTHON_CONFIGURATOR"), False),
        (("vendor", "profiling", "OTEL_PYTHON_CONFIGURATOR"), True),
        (("profiling", "configurator", "OTEL_PYTHON_CONFIGURATOR"), True),
    ],
)
def test_configurator_not_chosen(arguments: tuple[str, ...], shown: bool, caplog: pytest.LogCaptureFixture) -> None:
    """Nor is it that upstream's is not taken where ours is chosen, as it is for what the operator injects."""
    ProfilingDistro()._configure()
    logging.getLogger(LOADER).warning("Configuration of %s not loaded because %s is set by %s", *arguments)
    assert len(caplog.records) == shown


def test_other_lines_of_the_loader(caplog: pytest.LogCaptureFixture) -> None:
    """Failures to load are seen, whatever they mention."""
    ProfilingDistro()._configure()
    logger = logging.getLogger(LOADER)
    logger.error("Configuration of %s failed", "profiling")
    logger.error(NOT_LOADED)
    logger.warning("profiling configurator")
    assert len(caplog.records) == 3


def test_distro_configured_twice(caplog: pytest.LogCaptureFixture) -> None:
    """One filter is enough."""
    before = len(logging.getLogger(LOADER).filters)
    ProfilingDistro()._configure()
    ProfilingDistro()._configure()
    assert len(logging.getLogger(LOADER).filters) == before + 1
    assert caplog.records == []


def test_resource(configured: list[tuple[str, dict[str, Any]]]) -> None:
    """Says which distro it is and of which version, before profiling starts."""
    configure()
    attributes = {"telemetry.distro.name": "otel-profiling-distro", "telemetry.distro.version": __version__}
    assert configured == [("sdk", {"resource_attributes": attributes}), ("profiling", {})]


@pytest.mark.parametrize("given", [None, {}, {"a": "b"}, {"telemetry.distro.name": "of a vendor"}], ids=str)
def test_arguments_of_the_caller(given: Any, configured: list[tuple[str, dict[str, Any]]]) -> None:
    """Attributes that it gives win over ours, and its other arguments reach the SDK."""
    configure(resource_attributes=given, auto_instrumentation_version="1.0")
    _, arguments = configured[0]
    assert arguments.pop("resource_attributes") == {
        "telemetry.distro.name": "otel-profiling-distro",
        "telemetry.distro.version": __version__,
        **(given or {}),
    }
    assert arguments == {"auto_instrumentation_version": "1.0"}


def test_configuration_file(configured: list[tuple[str, dict[str, Any]]], monkeypatch: pytest.MonkeyPatch) -> None:
    """The resource is the file's: upstream would warn about each argument of ours; profiling starts all the same."""
    monkeypatch.setenv("OTEL_CONFIG_FILE", "otel.yaml")
    configure()
    assert configured == [("sdk", {}), ("profiling", {})]


def test_kinds() -> None:
    """Whoever asks sees upstream's distro and our configurator."""
    assert issubclass(ProfilingDistro, OpenTelemetryDistro)
    assert issubclass(ProfilingDistroConfigurator, ProfilingConfigurator)


@pytest.mark.parametrize(
    ("group", "loaded"),
    [("opentelemetry_distro", ProfilingDistro), ("opentelemetry_configurator", ProfilingDistroConfigurator)],
)
def test_entry_points(group: str, loaded: type) -> None:
    """`opentelemetry-instrument` finds both under the same name, so that one variable each picks them."""
    (entry_point,) = entry_points(group=group, name="profiling")
    assert entry_point.load() is loaded


def test_version() -> None:
    """The version on the resource is that of the distribution."""
    assert __version__ == version("otel-profiling-distro")
