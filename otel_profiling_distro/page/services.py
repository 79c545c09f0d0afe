"""What the lists of services and of routes show."""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import PurePath
from typing import Any

from otel_profiling_distro.receiver.model import Frame
from otel_profiling_distro.receiver.store import Store
from otel_profiling_distro.receiver.sums import CPU, Group

_BUCKETS = 60
_MOST_ROUTES = 500
_FUNCTIONS = 3
_NO_FRAME = Frame("(no Python frame)", "", 0)


def overview(store: Store) -> dict[str, Any]:
    """Return all services, most CPU time first, and how much there is."""
    with store.lock:
        cpu: Counter[str] = Counter()
        samples: Counter[str] = Counter()
        spans: Counter[str] = Counter()
        traces: defaultdict[str, set[str]] = defaultdict(set)
        kinds: defaultdict[str, dict[str, str]] = defaultdict(dict)
        for segment in store.segments:
            for group, sums in segment.groups.items():
                kinds[group.service][group.kind] = sums.unit
                if group.kind == CPU:
                    cpu[group.service] += sums.value
                    samples[group.service] += sums.count
            services = [source.service for source in segment.sources]
            for span in segment.spans:
                spans[services[span.source]] += 1
                traces[services[span.source]].add(span.trace_id)
        names = sorted({*cpu, *spans, *kinds}, key=lambda name: (-cpu[name], name))
        return {
            "generation": store.generation,
            "dropped": store.dropped,
            "size": store.size,
            "services": [
                {
                    "name": name,
                    "cpu_ns": cpu[name],
                    "samples": samples[name],
                    "spans": spans[name],
                    "traces": len(traces[name]),
                    "kinds": [{"kind": kind, "unit": unit} for kind, unit in sorted(kinds[name].items())],
                }
                for name in names
            ],
        }


def routes(store: Store, service: str) -> dict[str, Any]:
    """Return the routes of a service, most CPU time first and work outside any span last, with their CPU time over time."""
    with store.lock:
        cpu: Counter[str | None] = Counter()
        owners: Counter[str] = Counter()
        hot: defaultdict[str | None, Counter[tuple[str, str]]] = defaultdict(Counter)
        for segment in store.segments:
            for group, sums in segment.groups.items():
                if group.service == service and group.kind == CPU:
                    cpu[group.route] += sums.value
                    functions = hot[group.route]
                    for number, value in sums.frames(segment.stacks).items():
                        function, file, _ = segment.stacks.frames[number] if number >= 0 else _NO_FRAME
                        functions[function, file] += value
            for (owner, name), count in segment.owners.items():
                if owner == service:
                    owners[name] += count
        names = sorted({*cpu, *owners}, key=lambda name: (name is None, -cpu[name], name or ""))
        total = sum(cpu.values())
        shown = names[:_MOST_ROUTES]
        start, end, series = _over_time(store, service)
    return {
        "service": service,
        "cpu_ns": total,
        "start_ns": start,
        "end_ns": end,
        "more": len(names) - len(shown),
        "total_over_time": [sum(column) for column in zip(*series.values(), strict=True)] if series else [],
        "routes": [
            {
                "route": name,
                "cpu_ns": cpu[name],
                "share": cpu[name] / total if total else 0.0,
                "spans": 0 if name is None else owners[name],
                "cpu_per_span_ns": cpu[name] / owners[name] if name is not None and owners[name] else None,
                "hottest": [
                    {"function": function, "file": PurePath(file).name, "cpu_ns": value}
                    for (function, file), value in hot[name].most_common(_FUNCTIONS)
                ],
                "over_time": series.get(name, []),
            }
            for name in shown
        ],
    }


def _over_time(store: Store, service: str) -> tuple[int, int, dict[str | None, list[float]]]:
    """Return begin and end of what is known, and for each route the share of a core that it used in each part of that."""
    stretches = [
        (stretch, group, value)
        for segment in store.segments
        for stretch in segment.stretches
        for group, value in stretch.values.items()
        if _is_cpu_of(group, service)
    ]
    if not stretches:
        return 0, 0, {}
    start = min(stretch.start_ns for stretch, _, _ in stretches)
    end = max([start + 1, *(stretch.end_ns for stretch, _, _ in stretches)])
    width = (end - start) / _BUCKETS
    series: defaultdict[str | None, list[float]] = defaultdict(lambda: [0.0] * _BUCKETS)
    for stretch, group, value in stretches:
        # What a profile measured is spread over the time that it took: nothing says when in it.
        buckets = series[group.route]
        first = (stretch.start_ns - start) / width
        last = (stretch.end_ns - start) / width
        if last - first < 1:
            buckets[min(int((first + last) / 2), _BUCKETS - 1)] += value / width
            continue
        density = value / (last - first) / width
        for bucket in range(int(first), min(int(last) + 1, _BUCKETS)):
            buckets[bucket] += density * (min(last, bucket + 1) - max(first, bucket))
    return start, end, series


def _is_cpu_of(group: Group, service: str) -> bool:
    return group.kind == CPU and group.service == service
