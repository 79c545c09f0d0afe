"""Plays Pyroscope and an OpenTelemetry collector, in memory: for an engineer's own machine, and for tests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .model import Frame, Push, Refusal, Sample, Span
from .store import Bounds, Store

if TYPE_CHECKING:
    from .server import Receiver

__all__ = ["Bounds", "Frame", "Push", "Receiver", "Refusal", "Sample", "Span", "Store"]


def __getattr__(name: str) -> Any:
    """Import the server once it is asked for: it needs the extra `page`, what decodes uploads does not (see `doctor`)."""
    if name == "Receiver":
        from .server import Receiver  # noqa: PLC0415 - as said

        return Receiver
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
