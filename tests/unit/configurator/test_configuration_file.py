"""The SDK's configuration file: what it says of us wins over the environment, and what makes no sense there costs a warning."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from otel_profiling_configurator import environment_variables
from otel_profiling_configurator.settings import Reading, Settings, read_with_sources
from otel_profiling_configurator.spans.scope import Scope

pytest.importorskip("opentelemetry.configuration", reason="comes with opentelemetry-configuration")

SECRET = "hunter2"


@pytest.fixture
def reading(tmp_path: Path) -> Any:
    """Return what is read of a file with this section, beside this environment."""

    def reading(section: Any, *, disabled: bool = False, **environ: str) -> Reading:
        content: dict[str, Any] = {"file_format": "1.0", "disabled": disabled}
        if section:
            content["distribution"] = {"otel_profiling": section}
        path = tmp_path / "otel.json"
        path.write_text(json.dumps(content))
        return read_with_sources({"OTEL_CONFIG_FILE": str(path), **environ})

    return reading


def test_wins_over_environment(reading: Any, tmp_path: Path) -> None:
    """What stands in the file wins, what does not falls back to the environment; each setting knows its source."""
    told = reading(
        {"profiling_span_id_scope": "all", "profiling_sample_rate": 50},
        OTEL_PROFILING_SAMPLE_RATE="25",
        OTEL_PROFILING_TYPES="wall",
    )
    assert told.warnings == []
    assert told.settings == Settings(span_id_scope=Scope.ALL, sample_rate=50, types=("wall",))
    assert told.sources == {
        "OTEL_PROFILING_SPAN_ID_SCOPE": f"{tmp_path}/otel.json: profiling_span_id_scope",
        "OTEL_PROFILING_SAMPLE_RATE": f"{tmp_path}/otel.json: profiling_sample_rate",
        "OTEL_PROFILING_TYPES": "OTEL_PROFILING_TYPES",
    }


@pytest.mark.parametrize(
    ("name", "value", "field", "meaning"),
    [
        ("profiling_enabled", False, "enabled", False),
        ("enabled", False, "enabled", False),
        ("profiling_types", ["cpu", "memory"], "types", ("cpu", "memory")),
        ("profiling_types", "cpu,memory", "types", ("cpu", "memory")),
        ("profiling_labels", {"team": "a,b=c", "zone": ""}, "labels", {"team": "a,b=c", "zone": ""}),
        ("profiling_headers", {"X-Key": "a, b"}, "headers", {"X-Key": "a, b"}),
        (
            "profiling_resource_labels",
            {"k8s.pod.name": "pod", "team": None},
            "resource_labels",
            {"k8s.pod.name": "pod", "team": ""},
        ),
        ("profiling_resource_labels", ["team"], "resource_labels", {"team": ""}),
        ("profiling_upload_interval", 15, "upload_interval", 15),
        ("profiling_tenant_id", None, "tenant_id", ""),
    ],
)
def test_values(reading: Any, name: str, value: Any, field: str, meaning: Any) -> None:
    """Values are YAML's own kinds, or the texts that variables have; names are those of flags, with or without prefix."""
    told = reading({name: value})
    assert told.warnings == []
    assert getattr(told.settings, field) == meaning


@pytest.mark.parametrize("value", ["fast", 0, {"a": 1}, [1, 2]])
def test_value_that_makes_no_sense(reading: Any, value: Any) -> None:
    """One warning names file, setting and what is used instead: the environment's value."""
    told = reading({"profiling_sample_rate": value}, OTEL_PROFILING_SAMPLE_RATE="25")
    (warning,) = told.warnings
    assert "otel.json: profiling_sample_rate" in warning
    assert warning.endswith("using OTEL_PROFILING_SAMPLE_RATE")
    assert told.settings == Settings(sample_rate=25)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("profiling_headers", {"X-Key": [SECRET]}),
        ("profiling_basic_auth_password", {"of": SECRET}),
        ("profiling_application_name", [SECRET]),
        ("profiling_types", {"cpu": SECRET}),
    ],
)
def test_value_of_no_kind(reading: Any, name: str, value: Any) -> None:
    """What no value of this setting can be costs one warning, which shows nothing of it and says what is used instead."""
    default = environment_variables.DEFAULTS[f"OTEL_{name.upper()}"]
    told = reading({name: value})
    assert told.settings == Settings()
    (warning,) = told.warnings
    assert f"otel.json: {name}: expected " in warning
    assert warning.endswith(f"; using the default ({default})")
    assert SECRET not in warning


def test_value_of_no_kind_beside_the_environment(reading: Any) -> None:
    """The environment's is used, and the warning says so."""
    told = reading({"profiling_tenant_id": ["a"]}, OTEL_PROFILING_TENANT_ID="b")
    (warning,) = told.warnings
    assert warning.endswith("expected one value; using OTEL_PROFILING_TENANT_ID")
    assert told.settings == Settings(tenant_id="b")


def test_setting_that_stands_there_twice(reading: Any) -> None:
    """The first counts, and one line says so."""
    told = reading({"profiling_types": "wall", "types": "cpu"})
    (warning,) = told.warnings
    assert warning.endswith("types has no effect: profiling_types stands there twice, and the first counts")
    assert told.settings == Settings(types=("wall",))


@pytest.mark.parametrize(("section", "count"), [("otel_profilng", 1), ("otel-profiling", 1), ("vendor", 0)])
def test_section_that_is_misspelt(tmp_path: Path, section: str, count: int) -> None:
    """It costs one line with our name; that of another distribution costs none."""
    path = tmp_path / "otel.json"
    path.write_text(json.dumps({"file_format": "1.0", "distribution": {section: {"profiling_types": "wall"}}}))
    told = read_with_sources({"OTEL_CONFIG_FILE": str(path)})
    assert [warning.endswith(f"{section} has no effect; did you mean otel_profiling?") for warning in told.warnings] == [
        True
    ] * count


def test_unknown_name(reading: Any) -> None:
    """It costs one line with the nearest name, as the file would have it."""
    (warning,) = reading({"profiling_span_scope": "all"}).warnings
    assert warning.endswith("profiling_span_scope is no setting and has no effect; did you mean profiling_span_id_scope?")


def test_disabled(reading: Any) -> None:
    """What disables the SDK disables profiling, too."""
    told = reading(None, disabled=True)
    assert not told.settings.enabled
    assert told.sources["OTEL_PROFILING_ENABLED"].endswith("otel.json: disabled")


def test_file_that_can_not_be_read(tmp_path: Path) -> None:
    """The environment counts; what is wrong with the file is the SDK's to say."""
    told = read_with_sources({"OTEL_CONFIG_FILE": str(tmp_path / "missing.yaml"), "OTEL_PROFILING_TYPES": "wall"})
    assert (told.settings, told.warnings) == (Settings(types=("wall",)), [])


def test_defaults_in_words() -> None:
    """Each variable has one."""
    assert set(environment_variables.DEFAULTS) == {name for name in vars(environment_variables) if name.startswith("OTEL_")}
