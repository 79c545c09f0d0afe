"""An embedded stand-in for Pyroscope and an OpenTelemetry collector, for the demo and for tests."""

from .model import Frame, Push, Refusal, Sample, Span
from .server import Receiver

__all__ = ["Frame", "Push", "Receiver", "Refusal", "Sample", "Span"]
