"""The names that users set, as variables and as flags of `opentelemetry-instrument`."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Mapping
from importlib.metadata import entry_points

from otel_profiling_configurator import environment_variables, settings

DOCUMENTED = {
    "OTEL_PROFILING_ENABLED",
    "OTEL_PROFILING_SPAN_ID_SCOPE",
    "OTEL_PROFILING_SPAN_NAME_SCOPE",
    "OTEL_PROFILING_AGENT_ENABLED",
    "OTEL_PROFILING_SERVER_ADDRESS",
    "OTEL_PROFILING_APPLICATION_NAME",
    "OTEL_PROFILING_BASIC_AUTH_USER",
    "OTEL_PROFILING_BASIC_AUTH_PASSWORD",
    "OTEL_PROFILING_TENANT_ID",
    "OTEL_PROFILING_HEADERS",
    "OTEL_PROFILING_LABELS",
    "OTEL_PROFILING_RESOURCE_LABELS",
    "OTEL_PROFILING_TYPES",
    "OTEL_PROFILING_SAMPLE_RATE",
    "OTEL_PROFILING_UPLOAD_INTERVAL",
    "OTEL_PROFILING_GIL_ONLY",
    "OTEL_PROFILING_ALIASES",
    "OTEL_PROFILING_THREAD_CONTEXT",
    "OTEL_PROFILING_LOG_LEVEL",
}


class Recording(Mapping[str, str]):
    """An empty environment that remembers what it was asked for."""

    def __init__(self) -> None:
        self.asked: set[str] = set()

    def __getitem__(self, name: str) -> str:
        self.asked.add(name)
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


def names() -> dict[str, object]:
    return {name: value for name, value in vars(environment_variables).items() if name.startswith("OTEL_")}


def test_every_name() -> None:
    """Each constant is named like the variable it holds: upstream makes the flag from the one and sets the other."""
    assert names() == {name: name for name in names()}


def test_documented_variables() -> None:
    """Every documented variable is a flag."""
    assert set(names()) >= DOCUMENTED


def test_read_by_settings() -> None:
    """A flag that nobody reads would be a promise broken, and a variable that is no flag one forgotten."""
    environment = Recording()
    settings.read(environment)
    assert {name for name in environment.asked if name.startswith("OTEL_PROFILING_")} == set(names())


def test_entry_point() -> None:
    """`opentelemetry-instrument` finds the module under the group that it makes flags of."""
    (entry_point,) = entry_points(group="opentelemetry_environment_variables", name="profiling")
    assert entry_point.value == environment_variables.__name__


def test_import_of_the_names_alone() -> None:
    """`opentelemetry-instrument` imports the names in the process that only starts the application: no agent comes along."""
    code = f"import sys, {environment_variables.__name__}; print('pyroscope' in sys.modules)"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30)
    assert shown.stdout == "False\n"
