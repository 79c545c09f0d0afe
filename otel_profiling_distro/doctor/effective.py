"""The settings that hold, each with where it comes from, and what is wrong with them. Secrets are masked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from otel_profiling_configurator import environment_variables as names
from otel_profiling_configurator.settings import Reading, read_with_sources

from ..printable import printable
from .finding import Finding, Level, Setting

_PREFIX = "OTEL_PROFILING_"
_SECRET = ("OTEL_PROFILING_BASIC_AUTH_PASSWORD", "OTEL_PROFILING_HEADERS")
_MASK = "***"


def read(environ: Mapping[str, str]) -> Reading:
    """Return the settings that an environment asks for, as the application reads them."""
    return read_with_sources(environ)


def settings(reading: Reading) -> list[Setting]:
    """Return each setting with its value and its source."""
    return [Setting(name, printable(_shown(name, reading)), reading.sources.get(name, "default")) for name in names.DEFAULTS]


def _shown(name: str, reading: Reading) -> str:
    if name not in reading.sources:
        return names.DEFAULTS[name]
    if name in _SECRET:
        return _MASK
    if name == names.OTEL_PROFILING_SERVER_ADDRESS:
        return reading.settings.shown_server_address
    value = getattr(reading.settings, name.removeprefix(_PREFIX).lower())
    if isinstance(value, Mapping):
        return ",".join(f"{key}={entry}" if entry else key for key, entry in value.items())
    if isinstance(value, tuple):
        return ",".join(value)
    return str(getattr(value, "value", value)).lower() if isinstance(value, bool) else str(getattr(value, "value", value))


def findings(reading: Reading) -> Iterator[Finding]:
    """Yield what is switched off, and each value and name that makes no sense."""
    wanted = reading.settings
    for warning in reading.warnings:
        yield Finding(
            "settings",
            Level.WARNING,
            warning,
            "The application starts, without what was meant.",
            "Correct the name or the value.",
        )
    if not wanted.enabled:
        source = reading.sources.get(names.OTEL_PROFILING_ENABLED, names.OTEL_PROFILING_ENABLED)
        yield Finding(
            "settings",
            Level.FAULT,
            f"profiling is switched off by {source}.",
            "Nothing is profiled" + ("." if source == names.OTEL_PROFILING_ENABLED else ", and nothing traced."),
            f"Unset {source}." if source.startswith("OTEL_") else "Take that out of the file.",
        )
    elif not wanted.agent_enabled:
        yield Finding(
            "settings",
            Level.NOTE,
            f"no agent is started, as {reading.sources.get(names.OTEL_PROFILING_AGENT_ENABLED)} says.",
            "Profiles arrive if the application starts Pyroscope itself, or a profiler outside the process reads it.",
        )
