"""Plays Pyroscope and an OpenTelemetry collector, in memory: for an engineer's own machine, and for tests."""

from .model import Frame, Push, Refusal, Sample, Span
from .server import Receiver
from .store import Bounds, Store

__all__ = ["Bounds", "Frame", "Push", "Receiver", "Refusal", "Sample", "Span", "Store"]
