"""How `opentelemetry-instrument` reaches us: as its configurator, or under somebody else's by the pre-instrument hook.

Upstream takes the first configurator it happens to find, but runs every pre-instrument hook, after it. So the outcome is
the same whichever comes first (opentelemetry-instrumentation 0.51b0 to 0.66b1 at least).
"""

from __future__ import annotations

from typing import Any

from opentelemetry.sdk._configuration import _OTelSDKConfigurator

from .activation import activate


class ProfilingConfigurator(_OTelSDKConfigurator):
    """The SDK's configurator, with span profiles."""

    def _configure(self, **kwargs: Any) -> None:
        super()._configure(**kwargs)  # type: ignore[no-untyped-call] # upstream's is untyped
        activate()


def pre_instrument() -> None:
    """Start span profiles where another configurator than ours has configured the SDK."""
    activate()
