"""Joins profile samples and spans by the labels and attributes that link them in Grafana."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from otel_profiling_distro.receiver import Sample

from .functions import Work
from .model import Report, Route, Trace, TraceSpan

_ROUTE_FUNCTIONS = 3
_SPAN_FUNCTIONS = 6
_SEVERAL_SPANS = 3
"""From this many spans on, more of them do not make a trace more worth showing."""


class AnySpan(Protocol):
    """What is asked of a span here: a `Span`, or a `SpanRecord`, which takes a third of the memory."""

    @property
    def trace_id(self) -> str: ...  # noqa: D102 - as in `Span`, like those that follow
    @property
    def span_id(self) -> str: ...  # noqa: D102
    @property
    def parent_span_id(self) -> str: ...  # noqa: D102
    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def start_ns(self) -> int: ...  # noqa: D102
    @property
    def end_ns(self) -> int: ...  # noqa: D102
    @property
    def profile_id(self) -> str | None: ...  # noqa: D102


def summarise(samples: Iterable[Sample], spans: Sequence[AnySpan]) -> Report:
    """Return what `samples` and `spans` of one service say together; the samples are read once.

    Samples that measure no CPU time are left out, such as bytes allocated, and time by the clock on the wall.
    """
    cpu_ns = count = count_in_spans = 0
    routes: defaultdict[str | None, Work] = defaultdict(Work)
    profiles: defaultdict[str, Work] = defaultdict(Work)
    for sample in samples:
        if sample.unit != "nanoseconds" or sample.series.get("clock") == "wall":
            continue
        span_id, name = sample.label("span_id"), sample.label("span_name")
        cpu_ns += sample.value
        count += sample.count
        count_in_spans += sample.count if span_id or name else 0
        routes[name].add(sample)
        if span_id:
            profiles[span_id].add(sample)
    exported_ids = {span.profile_id for span in spans if span.profile_id is not None}
    return Report(
        cpu_ns=cpu_ns,
        samples=count,
        samples_in_spans=count_in_spans,
        spans=len(spans),
        traces=len({span.trace_id for span in spans}),
        profile_ids=len(profiles),
        profile_ids_exported=len(profiles.keys() & exported_ids),
        routes=_routes(routes, cpu_ns, spans),
        trace=_most_telling_trace(profiles, spans),
    )


def _routes(work: Mapping[str | None, Work], total: int, spans: Sequence[AnySpan]) -> tuple[Route, ...]:
    owners = Counter(span.name for span in spans if span.profile_id is not None)
    nothing = Work()
    # Spans that were too short for a single sample are part of the picture too.
    routes = [
        Route(
            name=name,
            cpu_ns=(own := work.get(name, nothing)).cpu_ns,
            share=own.cpu_ns / total if total else 0.0,
            spans=0 if name is None else owners[name],
            hottest=own.hottest(_ROUTE_FUNCTIONS),
        )
        for name in {*work, *owners}
    ]
    return tuple(sorted(routes, key=lambda route: (route.name is None, -route.cpu_ns, route.name or "")))


def _most_telling_trace(profiles: Mapping[str, Work], spans: Sequence[AnySpan]) -> Trace | None:
    """Return the trace with most CPU time among those that have several spans, or else of those with the most spans.

    A sampler that fell behind catches up in one go, and then a trace can seem to have used more CPU time than it took.
    Over many traces that evens out; the one to show is another, where there is one.
    """
    by_trace: defaultdict[str, list[AnySpan]] = defaultdict(list)
    for span in spans:
        by_trace[span.trace_id].append(span)

    def telling(trace_id: str) -> tuple[int, bool, int, str]:
        members = by_trace[trace_id]
        cpu_ns = _cpu(members, profiles)
        return min(len(members), _SEVERAL_SPANS), cpu_ns <= _duration(members), cpu_ns, trace_id

    busy = (trace_id for trace_id, members in by_trace.items() if _cpu(members, profiles))
    best = max(busy, key=telling, default=None)
    return None if best is None else _trace(best, by_trace[best], profiles)


def _cpu(spans: Sequence[AnySpan], profiles: Mapping[str, Work]) -> int:
    return sum(
        profiles[span.profile_id].cpu_ns for span in spans if span.profile_id is not None and span.profile_id in profiles
    )


def _duration(spans: Sequence[AnySpan]) -> int:
    return max(span.end_ns for span in spans) - min(span.start_ns for span in spans)


def _trace(trace_id: str, spans: Sequence[AnySpan], profiles: Mapping[str, Work]) -> Trace:
    start = min(span.start_ns for span in spans)
    exported = {span.span_id for span in spans}
    children: defaultdict[str, list[AnySpan]] = defaultdict(list)
    for span in sorted(spans, key=lambda span: (span.start_ns, span.span_id)):
        # A parent in another service, or one that was never exported, leaves its child a root of what we have.
        children[span.parent_span_id if span.parent_span_id in exported else ""].append(span)

    nothing = Work()

    def node(span: AnySpan) -> TraceSpan:
        profile = profiles.get(span.profile_id or "", nothing)
        return TraceSpan(
            name=span.name,
            offset_ns=span.start_ns - start,
            duration_ns=span.end_ns - span.start_ns,
            profile_id=span.profile_id,
            cpu_ns=profile.cpu_ns,
            hottest=profile.hottest(_SPAN_FUNCTIONS),
            children=tuple(node(child) for child in children[span.span_id]),
        )

    return Trace(
        trace_id=trace_id,
        duration_ns=_duration(spans),
        cpu_ns=_cpu(spans, profiles),
        roots=tuple(node(span) for span in children[""]),
    )
