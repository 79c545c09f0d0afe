"""What `opentelemetry-instrument` finds under the name ``profiling``: upstream's distro, with span profiles.

Defaults are upstream's alone. The profiling itself is the configurator distribution's, which also works under other distros.
"""

from __future__ import annotations

import logging
import os
from typing import Any

from opentelemetry.distro import OpenTelemetryDistro
from otel_profiling_configurator.configurator import ProfilingConfigurator

from .version import __version__

_LOADER = "opentelemetry.instrumentation.auto_instrumentation._load"
"""Logger of the module that picks distro and configurator (opentelemetry-instrumentation 0.51b0 to 0.66b1 at least)."""


class ProfilingDistro(OpenTelemetryDistro):
    """Upstream's distro: OTLP exporters by default."""

    def _configure(self, **kwargs: Any) -> None:
        super()._configure(**kwargs)  # type: ignore[no-untyped-call] # upstream's is untyped
        logging.getLogger(_LOADER).addFilter(_is_news)


class ProfilingDistroConfigurator(ProfilingConfigurator):
    """Upstream's configurator with span profiles, and a resource that says which distro this is."""

    def _configure(self, **kwargs: Any) -> None:
        # With a configuration file the resource is the file's, and upstream warns about each argument it ignores.
        if not os.environ.get("OTEL_CONFIG_FILE"):
            kwargs["resource_attributes"] = {
                "telemetry.distro.name": "otel-profiling-distro",
                "telemetry.distro.version": __version__,
                **(kwargs.get("resource_attributes") or {}),
            }
        super()._configure(**kwargs)


def _is_news(record: logging.LogRecord) -> bool:
    """Drop the warning that upstream's configurator is not loaded since ours is, or the other way round.

    Upstream's distro is a dependency, so both are always installed, and the outcome is the same whichever is taken: a
    warning at every start of every process would be about nothing.
    """
    if not isinstance(record.args, tuple):
        return True
    if record.msg == "Configuration of %s not loaded because %s is set by %s":
        return record.args[:2] != ("configurator", "profiling")
    if record.msg == "Configuration of %s not loaded, %s already loaded":
        return set(record.args) != {"profiling", "configurator"}
    return True
