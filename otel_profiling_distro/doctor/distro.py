"""Which distro and which configurator `opentelemetry-instrument` picks, and what that changes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from .asking import without_credentials
from .finding import Finding, Level
from .inside import Outcome

_EXPORT = (
    "OTEL_TRACES_EXPORTER",
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_EXPORTER_OTLP_PROTOCOL",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
)
_OTLP = "opentelemetry.exporter.otlp."


def picked(entry_points: Sequence[str], wanted: str | None) -> str:
    """Return which of several entry points upstream takes: the one that is asked for by name, or the first that it finds."""
    named = [point for point in entry_points if wanted is None or point.partition(" = ")[0] == wanted]
    return named[0] if named else ""


def findings(outcome: Outcome) -> Iterator[Finding]:
    """Yield what is picked there, and what the distro made of the exporter that it was asked for."""
    told = outcome.told
    if not told:
        return
    distro = picked(told["distros"], outcome.environ.get("OTEL_PYTHON_DISTRO"))
    configurator = picked(told["configurators"], outcome.environ.get("OTEL_PYTHON_CONFIGURATOR"))
    others = [point.partition(" = ")[2] for point in told["distros"] if point != distro]
    too = f" ({', '.join(others)} is there, too)" if others else ""
    yield Finding(
        "distro",
        Level.OK,
        f"opentelemetry-instrument picks the distro {_class(distro)}{too} and the configurator "
        f"{_class(configurator)}. Profiling is added whichever it picks.",
    )
    if not configurator:
        yield Finding(
            "distro",
            Level.FAULT,
            "no configurator is there, or none of the name that OTEL_PYTHON_CONFIGURATOR gives.",
            "The SDK is not set up: no traces, and profiling waits for the application to set a tracer provider.",
            "pip install opentelemetry-distro, and unset OTEL_PYTHON_CONFIGURATOR.",
        )
    changed = [name for name in _EXPORT if told["environ"].get(name) != outcome.environ.get(name)]
    foreign = [name for name in told.get("exporters", []) if not name.startswith(_OTLP)]
    if changed or foreign:
        detail = "; ".join(
            f"{name} was {_shown(outcome.environ, name)}, and is {_shown(told['environ'], name)}" for name in changed
        )
        yield Finding(
            "exporter",
            Level.WARNING,
            f"the distro {_class(distro)} overrides the exporter of traces: {detail or 'it exports by ' + ', '.join(foreign)}",
            "Traces go elsewhere than the environment says; profiles don't, so that the two may not meet.",
            "Choose the distro: OTEL_PYTHON_DISTRO=profiling. Or give that distro the address in its own setting.",
        )


def _class(entry_point: str) -> str:
    return entry_point.partition(" = ")[2] or "none"


def _shown(environ: Mapping[str, str], name: str) -> str:
    return without_credentials(environ[name]) if name in environ else "not set"
