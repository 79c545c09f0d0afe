"""Labels Grafana Pyroscope's CPU samples with the OpenTelemetry span that was really running."""

from .activation import activate, deactivate
from .spans.scope import Scope
from .spans.tracer_provider import ProfilingTracerProvider
from .version import __version__

__all__ = ["ProfilingTracerProvider", "Scope", "__version__", "activate", "deactivate"]
