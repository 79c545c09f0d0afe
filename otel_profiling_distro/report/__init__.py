"""What profiles and traces say together: per route, and for one trace."""

from .model import HotFunction, Report, Route, Trace, TraceSpan
from .render import render
from .summary import summarise

__all__ = ["HotFunction", "Report", "Route", "Trace", "TraceSpan", "render", "summarise"]
