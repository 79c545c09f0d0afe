"""What `opentelemetry-instrument` finds under the name ``profiling``: upstream's distro, with a resource that says who it is.

Defaults are upstream's alone. The profiling itself is the configurator distribution's, which also works under other distros.
There is no configurator of ours among the entry points: upstream takes the first one that it finds, and warns at every start
of every process about each of the others. Its own does the work, and our pre-instrument hooks, which all run, follow it.
"""

from __future__ import annotations

import os
from typing import Any

from opentelemetry.distro import OpenTelemetryDistro

from .version import __version__

RESOURCE_ATTRIBUTES = "OTEL_RESOURCE_ATTRIBUTES"

_DISTRO = {"telemetry.distro.name": "otel-profiling-distro", "telemetry.distro.version": __version__}

_replaced: list[tuple[str, str | None]] = []
"""What `RESOURCE_ATTRIBUTES` is while the SDK is configured, and what it was before; empty at all other times."""


class ProfilingDistro(OpenTelemetryDistro):
    """Upstream's distro: OTLP exporters by default."""

    def _configure(self, **kwargs: Any) -> None:
        super()._configure(**kwargs)  # type: ignore[no-untyped-call] # upstream's is untyped
        _name_distro()


def pre_instrument() -> None:
    """Leave the environment as it was: the SDK has been configured, and children may have other distros."""
    while _replaced:
        mine, before = _replaced.pop()
        if os.environ.get(RESOURCE_ATTRIBUTES) != mine:
            continue  # somebody else has set it since
        if before is None:
            del os.environ[RESOURCE_ATTRIBUTES]
        else:
            os.environ[RESOURCE_ATTRIBUTES] = before


def _name_distro() -> None:
    """Have the resource say which distro this is, unless the user does: nobody asks a distro for it (SDK 1.30 to 1.45)."""
    before = os.environ.get(RESOURCE_ATTRIBUTES)
    if "telemetry.distro." in (before or ""):
        return
    entries = [*filter(None, [before]), *(f"{name}={value}" for name, value in _DISTRO.items())]
    os.environ[RESOURCE_ATTRIBUTES] = ",".join(entries)
    _replaced.append((os.environ[RESOURCE_ATTRIBUTES], before))
