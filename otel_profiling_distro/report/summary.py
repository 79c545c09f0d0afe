"""Joins profile samples and spans by the labels and attributes that link them in Grafana."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from otel_profiling_distro.receiver import Sample, Span

from .functions import hottest_functions
from .model import Report, Route, Trace, TraceSpan

PROFILE_ID = "pyroscope.profile.id"

_ROUTE_FUNCTIONS = 3
_SPAN_FUNCTIONS = 6
_SEVERAL_SPANS = 3
"""From this many spans on, more of them do not make a trace more worth showing."""


def summarise(samples: Iterable[Sample], spans: Sequence[Span]) -> Report:
    """Return what `samples` and `spans` of one service say together.

    Samples that measure no time, such as bytes allocated, are left out.
    """
    timed = [sample for sample in samples if sample.unit == "nanoseconds"]
    exported_ids = {span.attributes[PROFILE_ID] for span in spans if PROFILE_ID in span.attributes}
    sampled_ids = {span_id for sample in timed if (span_id := sample.label("span_id"))}
    return Report(
        cpu_ns=_cpu(timed),
        samples=sum(sample.count for sample in timed),
        samples_in_spans=sum(sample.count for sample in timed if sample.label("span_id") or sample.label("span_name")),
        spans=len(spans),
        traces=len({span.trace_id for span in spans}),
        profile_ids=len(sampled_ids),
        profile_ids_exported=len(sampled_ids & exported_ids),
        routes=_routes(timed, spans),
        trace=_most_telling_trace(timed, spans),
    )


def _cpu(samples: Iterable[Sample]) -> int:
    return sum(sample.value for sample in samples)


def _routes(samples: Sequence[Sample], spans: Sequence[Span]) -> tuple[Route, ...]:
    total = _cpu(samples)
    owners = Counter(span.name for span in spans if PROFILE_ID in span.attributes)
    by_name: defaultdict[str | None, list[Sample]] = defaultdict(list)
    for sample in samples:
        by_name[sample.label("span_name")].append(sample)
    # Spans that were too short for a single sample are part of the picture too.
    routes = [
        Route(
            name=name,
            cpu_ns=(cpu_ns := _cpu(by_name.get(name, ()))),
            share=cpu_ns / total if total else 0.0,
            spans=0 if name is None else owners[name],
            hottest=hottest_functions(by_name.get(name, ()), _ROUTE_FUNCTIONS),
        )
        for name in {*by_name, *owners}
    ]
    return tuple(sorted(routes, key=lambda route: (route.name is None, -route.cpu_ns, route.name or "")))


def _most_telling_trace(samples: Sequence[Sample], spans: Sequence[Span]) -> Trace | None:
    """Return the trace with most CPU time among those that have several spans, or else of those with the most spans.

    A sampler that fell behind catches up in one go, and then a trace can seem to have used more CPU time than it took.
    Over many traces that evens out; the one to show is another, where there is one.
    """
    profiles: defaultdict[str, list[Sample]] = defaultdict(list)
    for sample in samples:
        if span_id := sample.label("span_id"):
            profiles[span_id].append(sample)
    by_trace: defaultdict[str, list[Span]] = defaultdict(list)
    for span in spans:
        by_trace[span.trace_id].append(span)
    traces = (_trace(trace_id, members, profiles) for trace_id, members in by_trace.items())
    return max(
        (trace for trace in traces if trace.cpu_ns),
        key=lambda trace: (
            min(len(by_trace[trace.trace_id]), _SEVERAL_SPANS),
            trace.cpu_ns <= trace.duration_ns,
            trace.cpu_ns,
            trace.trace_id,
        ),
        default=None,
    )


def _trace(trace_id: str, spans: Sequence[Span], profiles: dict[str, list[Sample]]) -> Trace:
    start = min(span.start_ns for span in spans)
    exported = {span.span_id for span in spans}
    children: defaultdict[str, list[Span]] = defaultdict(list)
    for span in sorted(spans, key=lambda span: (span.start_ns, span.span_id)):
        # A parent in another service, or one that was never exported, leaves its child a root of what we have.
        children[span.parent_span_id if span.parent_span_id in exported else ""].append(span)

    def node(span: Span) -> TraceSpan:
        profile_id = span.attributes.get(PROFILE_ID)
        profile = profiles.get(profile_id, []) if profile_id else []
        return TraceSpan(
            name=span.name,
            offset_ns=span.start_ns - start,
            duration_ns=span.end_ns - span.start_ns,
            profile_id=profile_id,
            cpu_ns=_cpu(profile),
            hottest=hottest_functions(profile, _SPAN_FUNCTIONS),
            children=tuple(node(child) for child in children[span.span_id]),
        )

    return Trace(
        trace_id=trace_id,
        duration_ns=max(span.end_ns for span in spans) - start,
        cpu_ns=sum(_cpu(profiles.get(span.attributes.get(PROFILE_ID, ""), ())) for span in spans),
        roots=tuple(node(span) for span in children[""]),
    )
