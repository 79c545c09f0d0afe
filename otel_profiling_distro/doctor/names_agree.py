"""Whether traces and profiles have the same name, and whether there are traces to link to."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from otel_profiling_configurator.settings import CONFIG_FILE, Settings

from .finding import Finding, Level

_UNKNOWN = "unknown_service"


def service_name(environ: Mapping[str, str], file: Any) -> str:
    """Return the ``service.name`` that the SDK will give the resource; empty where nobody says it.

    Args:
        environ: The application's environment.
        file: The model of its configuration file, which the SDK takes instead of the environment; None where there is none.
    """
    if file is not None:
        resource = getattr(file, "resource", None)
        named = [str(each.value) for each in getattr(resource, "attributes", None) or [] if each.name == "service.name"]
        return named[0] if named else _name_in(getattr(resource, "attributes_list", None) or "")
    if name := environ.get("OTEL_SERVICE_NAME", "").strip():
        return name
    return _name_in(environ.get("OTEL_RESOURCE_ATTRIBUTES", ""))


def _name_in(attributes: str) -> str:
    for entry in attributes.split(","):
        key, _, value = entry.partition("=")
        if key.strip() == "service.name":
            return unquote(value.strip())
    return ""


def model_of_file(environ: Mapping[str, str]) -> Any:
    """Return the model of the SDK's configuration file; None where there is none, or none that can be read."""
    return _load(environ.get(CONFIG_FILE, "").strip())[0]


def _load(path: str) -> tuple[Any, str]:
    """Return the model of a configuration file, or None and why it can't be read: without its text, which may have secrets."""
    if not path:
        return None, ""
    try:
        from opentelemetry.configuration import load_config_file  # noqa: PLC0415 - only there where somebody installed it
    except ImportError as error:
        return None, f"{error}; pip install opentelemetry-configuration"
    if not Path(path).is_file():
        return None, f"there is no such file, seen from {Path.cwd()}"
    try:
        return load_config_file(path), ""
    except Exception as error:  # noqa: BLE001 - what is in it may be anything
        places = re.findall(r"\(at [^)]*\)|line \d+, column \d+", str(error))
        return None, " ".join(["it does not fit the schema, or is no YAML", *places[-1:]])


def findings(environ: Mapping[str, str], settings: Settings) -> Iterator[Finding]:
    """Yield what name profiles have, and what share of traces is sampled."""
    path = environ.get(CONFIG_FILE, "").strip()
    file, why = _load(path)
    if why:
        yield Finding(
            "configuration file",
            Level.FAULT,
            f"{CONFIG_FILE} names {path}, which can't be read here: {why}.",
            "The SDK is not set up: no traces, and no profiles.",
            f"Mend the file, or unset {CONFIG_FILE}.",
        )
        return
    if file is not None and not getattr(file, "disabled", None) and getattr(file, "tracer_provider", None) is None:
        yield Finding(
            "configuration file",
            Level.FAULT,
            f"{CONFIG_FILE} names {path}, which has no tracer_provider.",
            "The SDK makes no traces, and profiling waits until the application sets a tracer provider.",
            "Add tracer_provider, with processors and an exporter, to the file.",
        )
    name = service_name(environ, file)
    if settings.application_name and name and settings.application_name != name:
        yield Finding(
            "name",
            Level.WARNING,
            f"profiles are sent as {settings.application_name!r}, traces as {name!r}.",
            "Grafana looks for a trace's profiles by its service.name, and finds none.",
            "Unset OTEL_PROFILING_APPLICATION_NAME (or PYROSCOPE_APPLICATION_NAME): service.name is used then.",
        )
    elif settings.application_name or name:
        yield Finding("name", Level.OK, f"profiles and traces are sent as {settings.application_name or name!r}")
    else:
        yield Finding(
            "name",
            Level.WARNING,
            f"nobody says what the service is called: profiles are sent as {_UNKNOWN!r}.",
            "They are hard to find, and mixed with those of others who don't say it.",
            "OTEL_SERVICE_NAME=checkout",
        )
    yield from _sampler(environ, file)


def sampled_share(environ: Mapping[str, str]) -> float:
    """Return the share of traces that the environment has sampled where they begin here, from 0 to 1."""
    name = environ.get("OTEL_TRACES_SAMPLER", "").strip().lower().removeprefix("parentbased_")
    if name == "always_off":
        return 0.0
    if name == "traceidratio":
        try:
            return min(max(float(environ.get("OTEL_TRACES_SAMPLER_ARG", "") or 1), 0.0), 1.0)
        except ValueError:
            return 1.0
    return 1.0


def _share(sampler: Any) -> float:
    """Return the share of traces that the sampler of a file has where they begin (opentelemetry-configuration 0.66b1)."""
    parent_based = getattr(sampler, "parent_based", None)
    if parent_based is not None:
        return _share(getattr(parent_based, "root", None))
    if getattr(sampler, "always_off", None) is not None:
        return 0.0
    for kind in ("trace_id_ratio_based", "probability_development"):
        ratio = getattr(getattr(sampler, kind, None), "ratio", None)
        if ratio is not None:
            return float(ratio)
    return 1.0


def _sampler(environ: Mapping[str, str], file: Any) -> Iterator[Finding]:
    if file is not None:
        share = _share(getattr(getattr(file, "tracer_provider", None), "sampler", None))
        source = f"{CONFIG_FILE}={environ[CONFIG_FILE]}"
    else:
        share, source = sampled_share(environ), f"OTEL_TRACES_SAMPLER={environ.get('OTEL_TRACES_SAMPLER', '')}"
    if share == 0:
        yield Finding(
            "trace sampler",
            Level.WARNING,
            f"no trace that begins here is sampled ({source}).",
            "Samples have span_name only; there is no trace to link to.",
            "OTEL_TRACES_SAMPLER=parentbased_traceidratio with OTEL_TRACES_SAMPLER_ARG=0.1 samples a tenth.",
        )
    elif share < 1:
        yield Finding("trace sampler", Level.OK, f"{share:.4g} of the traces that begin here are sampled; all have span_name")
