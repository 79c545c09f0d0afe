"""Starts OpenTelemetry as its own ``sitecustomize`` does, and as if our distributions were not installed."""

from importlib.metadata import EntryPoints

import opentelemetry.util._importlib_metadata as metadata

_entry_points = metadata.entry_points


def entry_points(**selection):
    """Leave ours out."""
    return EntryPoints(point for point in _entry_points(**selection) if not point.value.startswith("otel_profiling_"))


metadata.entry_points = entry_points

from opentelemetry.instrumentation.auto_instrumentation import initialize  # noqa: E402 - it looks for entry points

initialize()
