"""What the list of traces shows, and one trace as a waterfall."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from otel_profiling_distro.receiver.otlp import SpanRecord
from otel_profiling_distro.receiver.segment import Segment
from otel_profiling_distro.receiver.store import Store
from otel_profiling_distro.receiver.sums import TracePart, rank

_MOST_TRACES = 200
_MOST_SPANS = 2_000


@dataclass(frozen=True, slots=True)
class Filter:
    """Which traces; what is None does not matter."""

    service: str | None = None
    """Has a span of this service."""
    name: str | None = None
    """Has a span with this in its name, in whatever case."""
    trace_id: str | None = None
    """Begins with this."""
    least_cpu_ns: int = 0
    limit: int = _MOST_TRACES


@dataclass(slots=True)
class _Entry:
    start_ns: int
    end_ns: int
    first: SpanRecord
    failed: bool = False
    parts: list[tuple[Segment, TracePart]] = field(default_factory=list)

    def spans(self) -> Iterator[SpanRecord]:
        """Yield each span."""
        for segment, part in self.parts:
            for number in part.spans:
                yield segment.spans[number]


def traces(store: Store, wanted: Filter) -> dict[str, Any]:
    """Return traces, newest first."""
    with store.lock:
        cpu: Counter[str] = Counter()
        for segment in store.segments:
            cpu.update(segment.cpu_by_trace)
        named = _Named(wanted.name)
        found = [
            (trace_id, entry)
            for trace_id, entry in _entries(store).items()
            if (wanted.trace_id is None or trace_id.startswith(wanted.trace_id.lower()))
            and cpu[trace_id] >= wanted.least_cpu_ns
            and (wanted.service is None or any(wanted.service in part.services for _, part in entry.parts))
            and (not wanted.name or any(named[span.name] for span in entry.spans()))
        ]
        found.sort(key=lambda item: (-item[1].start_ns, item[0]))
        return {
            "found": len(found),
            "traces": [_line(trace_id, entry, cpu[trace_id]) for trace_id, entry in found[: wanted.limit]],
        }


def _line(trace_id: str, entry: _Entry, cpu_ns: int) -> dict[str, Any]:
    duration = entry.end_ns - entry.start_ns
    return {
        "trace_id": trace_id,
        "name": entry.first.name,
        "services": sorted(set().union(*(part.services for _, part in entry.parts))),
        "start_ns": entry.start_ns,
        "duration_ns": duration,
        "cpu_ns": cpu_ns,
        "wait_ns": max(duration - cpu_ns, 0),
        "spans": sum(len(part.spans) for _, part in entry.parts),
        "failed": entry.failed,
    }


class _Named(dict[str, bool]):
    """Whether names have a part in them, in whatever case: asked of every span, found out once for each name."""

    def __init__(self, part: str | None) -> None:
        super().__init__()
        self._part = (part or "").lower()

    def __missing__(self, name: str) -> bool:
        self[name] = self._part in name.lower()
        return self[name]


def _entries(store: Store) -> dict[str, _Entry]:
    entries: dict[str, _Entry] = {}
    for segment in store.segments:
        for trace_id, part in segment.traces.items():
            entry = entries.get(trace_id)
            if entry is None:
                entry = entries[trace_id] = _Entry(part.start_ns, part.end_ns, part.first)
            else:
                entry.start_ns = min(entry.start_ns, part.start_ns)
                entry.end_ns = max(entry.end_ns, part.end_ns)
                entry.first = min(entry.first, part.first, key=rank)
            entry.failed = entry.failed or part.failed
            entry.parts.append((segment, part))
    return entries


def trace(store: Store, trace_id: str) -> dict[str, Any] | None:
    """Return the spans of a trace, parents before children, with the CPU time of each profile; None where there is none."""
    with store.lock:
        spans: dict[str, tuple[SpanRecord, str]] = {}
        cpu: Counter[str] = Counter()
        total = 0
        for segment in store.segments:
            for number in part.spans if (part := segment.traces.get(trace_id)) else ():
                span = segment.spans[number]
                spans[span.span_id] = (span, segment.sources[span.source].service)
            total += segment.cpu_by_trace[trace_id]
        for segment in store.segments:
            for span, _ in spans.values():
                if span.profile_id is not None and span.profile_id in segment.cpu_by_span:
                    cpu[span.profile_id] += segment.cpu_by_span[span.profile_id]
    if not spans:
        return None
    start = min(span.start_ns for span, _ in spans.values())
    end = max(span.end_ns for span, _ in spans.values())
    return {
        "trace_id": trace_id,
        "start_ns": start,
        "duration_ns": end - start,
        "cpu_ns": total,
        "wait_ns": max(end - start - total, 0),
        "more": max(len(spans) - _MOST_SPANS, 0),
        "spans": [
            {
                "span_id": span.span_id,
                "name": span.name,
                "service": service,
                "depth": depth,
                "offset_ns": span.start_ns - start,
                "duration_ns": max(span.end_ns - span.start_ns, 0),
                "profile_id": span.profile_id,
                "cpu_ns": cpu[span.profile_id] if span.profile_id is not None else None,
                "failed": span.failed,
            }
            for span, service, depth in _in_order(spans)[:_MOST_SPANS]
        ],
    }


def _in_order(spans: dict[str, tuple[SpanRecord, str]]) -> list[tuple[SpanRecord, str, int]]:
    """Return each span once, after its parent, with its depth; those whose parent is missing, or is below them, as roots."""
    children: defaultdict[str, list[str]] = defaultdict(list)
    for span_id, (span, _) in spans.items():
        parent = span.parent_span_id
        children[parent if parent in spans and parent != span_id else ""].append(span_id)
    for below in children.values():
        below.sort(key=lambda span_id: (spans[span_id][0].start_ns, span_id), reverse=True)
    result: list[tuple[SpanRecord, str, int]] = []
    seen: set[str] = set()

    def walk(roots: list[str]) -> None:
        waiting = [(span_id, 0) for span_id in roots]
        while waiting:
            span_id, depth = waiting.pop()
            if span_id not in seen:
                seen.add(span_id)
                result.append((*spans[span_id], depth))
                waiting.extend((child, depth + 1) for child in children.get(span_id, ()))

    walk(children.get("", []))
    # Spans that are each other's ancestors hang on no root; a sender may say so all the same.
    walk([span_id for span_id in spans if span_id not in seen])
    return result
