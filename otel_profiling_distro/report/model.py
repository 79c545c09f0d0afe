"""The numbers of a report, apart from how they are found and how they look."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class HotFunction:
    """A function and the CPU time spent in itself, not in what it calls."""

    function: str
    filename: str
    cpu_ns: int
    share: float
    """Of the CPU time of the route or span it is listed under, 0 to 1."""


@dataclass(frozen=True, slots=True)
class Route:
    """What the samples with one ``span_name`` add up to."""

    name: str | None
    """None for work outside any span."""
    cpu_ns: int
    share: float
    """Of all CPU time, 0 to 1."""
    spans: int
    """How many exported spans of this name own a profile."""
    hottest: tuple[HotFunction, ...]

    @property
    def cpu_per_span_ns(self) -> float | None:
        """CPU time of one span on average; None where no span was exported, for instance because none was sampled."""
        return self.cpu_ns / self.spans if self.spans else None


@dataclass(frozen=True, slots=True)
class TraceSpan:
    """A span in its trace, with the profile that it owns."""

    name: str
    offset_ns: int
    """From the start of the trace."""
    duration_ns: int
    profile_id: str | None
    """Its ``pyroscope.profile.id``: None where its samples count for its local root span."""
    cpu_ns: int
    """CPU time of that profile."""
    hottest: tuple[HotFunction, ...]
    children: tuple[TraceSpan, ...]


@dataclass(frozen=True, slots=True)
class Trace:
    """The spans of one trace, as trees: more than one where a parent was not exported."""

    trace_id: str
    duration_ns: int
    cpu_ns: int
    roots: tuple[TraceSpan, ...]


@dataclass(frozen=True, slots=True)
class Report:
    """Everything that `render` shows."""

    cpu_ns: int
    samples: int
    """Readings of a stack."""
    samples_in_spans: int
    """Those of them that carry a span's id or name."""
    spans: int
    traces: int
    profile_ids: int
    """Different ``span_id`` labels on the samples."""
    profile_ids_exported: int
    """Those of them that an exported span names as its ``pyroscope.profile.id``."""
    routes: tuple[Route, ...]
    """Most CPU time first; work outside any span last."""
    trace: Trace | None
    """The one with the most to show."""
