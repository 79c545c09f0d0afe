"""What the page is told: sums of exactly the samples that are kept, and traces in order."""

from __future__ import annotations

import json
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from otel_profiling_distro.page.profile import Selection, Tree, profile
from otel_profiling_distro.page.services import overview, routes
from otel_profiling_distro.page.traces import Filter, trace, traces
from otel_profiling_distro.receiver import Bounds, Frame, Sample, Store

from .uploads import MS, SECOND, UNHURRIED, profiles, sample, span, spans
from .uploads import profile as upload

names = st.sampled_from(["a", "b", "c"])
work = st.builds(
    lambda stack, ms, service, labels: sample(stack, ms, service, **labels),
    st.lists(names, max_size=6).map(" ".join),
    st.integers(1, 1_000),
    st.sampled_from(["shop", "bank"]),
    st.fixed_dictionaries(
        {},
        optional={
            "span_name": st.sampled_from(["GET /", "POST /"]),
            "span_id": st.sampled_from(["s1", "s2"]),
            "trace_id": st.sampled_from(["t1", "t2"]),
            "clock": st.just("wall"),
        },
    ),
)
selections = st.builds(
    Selection,
    service=st.none() | st.sampled_from(["shop", "bank"]),
    route=st.none() | st.sampled_from(["GET /", "POST /"]),
    outside=st.just(False),
    trace=st.none() | st.sampled_from(["t1", "t2"]),
    span=st.none() | st.sampled_from(["s1", "s2"]),
    kind=st.sampled_from(["cpu", "wall"]),
) | st.builds(Selection, service=st.none() | st.just("shop"), outside=st.just(True))


def meant(one: Sample, selection: Selection) -> bool:
    return (
        ("wall" if one.series.get("clock") == "wall" else "cpu") == selection.kind
        and selection.service in {None, one.series["service_name"]}
        and selection.route in {None, one.label("span_name")}
        and (not selection.outside or one.label("span_name") is None)
        and selection.trace in {None, one.label("trace_id")}
        and selection.span in {None, one.label("span_id")}
    )


def stacks(tree: Tree) -> dict[tuple[Frame, ...], int]:
    """Return the value of each stack of a tree, leaf first."""
    result = {}
    for node, value in enumerate(tree.self_values):
        stack = []
        above = node
        while above > 0:
            stack.append(tree.frames[tree.frame_of[above]])
            above = tree.parents[above]
        if value:
            result[tuple(stack)] = value
    return result


@UNHURRIED
@given(st.lists(st.lists(work, max_size=5), max_size=5), selections, st.booleans())
def test_profile(pushes: list[list[Sample]], selection: Selection, segments: bool) -> None:
    """A profile is the sum of the samples that are meant, stack by stack, to the nanosecond, across segments and tables."""
    now = [0.0]
    # So little room makes a segment of each push, and a table of stacks now and then.
    store = Store(Bounds(size=10**9, seconds=6_000) if segments else None, lambda: now[0])
    for push in pushes:
        store.add_profiles(profiles(*push))
        now[0] += 1_000
    kept = store.samples()
    expected: Counter[tuple[Frame, ...]] = Counter()
    for one in kept:
        if meant(one, selection):
            expected[one.stack] += one.value
    tree = profile(store, selection)
    assert stacks(tree) == dict(expected)
    assert tree.total == sum(expected.values())
    assert json.loads(json.dumps(tree.plain()))["total"] == tree.total


def test_overview_and_routes() -> None:
    """Services and routes come by CPU time, work outside any span last, and time on the wall's clock counts for nothing."""
    store = Store()
    store.add_profiles(
        profiles(
            sample("f", 20, span_name="GET /"),
            sample("g caller", 60, span_name="POST /"),
            sample("g other", 20, span_name="POST /"),
            sample("h", 100),
            sample("f", 900, span_name="GET /", clock="wall"),
            sample("f", 10, "bank"),
        )
    )
    store.add_spans(spans(span("t", "s", "POST /"), span("t", "u", "step", "s", owner=False), span("v", "w", "GET /quick")))
    services = overview(store)["services"]
    assert [(s["name"], s["cpu_ns"], s["spans"], s["traces"]) for s in services] == [
        ("shop", 200 * MS, 3, 2),
        ("bank", 10 * MS, 0, 0),
    ]
    assert [kind["kind"] for kind in services[0]["kinds"]] == ["cpu", "wall"]
    listed = routes(store, "shop")
    assert [(r["route"], r["cpu_ns"], r["share"], r["spans"], r["cpu_per_span_ns"]) for r in listed["routes"]] == [
        ("POST /", 80 * MS, 0.4, 1, 80 * MS),
        ("GET /", 20 * MS, 0.1, 0, None),
        ("GET /quick", 0, 0.0, 1, 0),
        (None, 100 * MS, 0.5, 0, None),
    ]
    assert listed["routes"][0]["hottest"] == [{"function": "g", "file": "shop.py", "cpu_ns": 80 * MS}]


def test_over_time() -> None:
    """A profile's time is spread over its duration, in cores; the columns add up to all of it."""
    store = Store()
    second = 1_000_000_000
    start = 1_000_000 * second
    store.add_profiles([upload(sample("f", 10_000, span_name="GET /"), start_ns=start, duration_ns=10 * second)])
    store.add_profiles([upload(sample("f", 5_000, span_name="GET /"), start_ns=start + 50 * second, duration_ns=10 * second)])
    listed = routes(store, "shop")
    assert (listed["start_ns"], listed["end_ns"]) == (start, start + 60 * second)
    (route,) = listed["routes"]
    assert [round(value, 6) for value in route["over_time"]] == [1.0] * 10 + [0.0] * 40 + [0.5] * 10
    assert listed["total_over_time"] == route["over_time"]


def test_profile_without_a_time() -> None:
    """A profile that does not say when it was taken counts for the moment at which it came."""
    store = Store(clock=lambda: 100.0)
    store.add_profiles([upload(sample("f", 1_000))])
    store.add_profiles([upload(sample("f", 1_000), start_ns=-5, duration_ns=-(10 * SECOND))])
    listed = routes(store, "shop")
    assert sum(listed["total_over_time"]) * (listed["end_ns"] - listed["start_ns"]) / 60 == 2_000 * MS


def test_traces() -> None:
    """Traces are newest first, called by their root, also where it comes last, and told apart by what is asked for."""
    store = Store()
    store.add_spans(spans(span("t1", "b", "charge", "a", at=20), span("t2", "c", "GET /", at=500)))
    store.add_spans(spans(span("t1", "a", "POST /", at=0, ms=300)))
    store.add_spans(spans(span("t1", "d", "settle", "b", at=40, ms=400), service="bank"))
    store.add_profiles(profiles(sample("f", 70, trace_id="t1"), sample("f", 30, "bank", trace_id="t1")))

    def ids(**wanted: object) -> list[str]:
        return [line["trace_id"] for line in traces(store, Filter(**wanted))["traces"]]  # type: ignore[arg-type]

    assert ids() == ["t2", "t1"]
    assert ids(service="bank") == ids(name="SETTLE") == ids(least_cpu_ns=100 * MS) == ids(trace_id="T1") == ["t1"]
    assert ids(name="nothing") == ids(least_cpu_ns=100 * MS + 1) == []
    assert ids(limit=1) == ["t2"]
    line = traces(store, Filter())["traces"][1]
    assert (line["name"], line["services"], line["spans"]) == ("POST /", ["bank", "shop"], 3)
    assert (line["duration_ns"], line["cpu_ns"], line["wait_ns"]) == (440 * MS, 100 * MS, 340 * MS)


def test_trace() -> None:
    """Spans come after their parents, by time; one whose parent is missing is a root; each has its own profile's CPU time."""
    store = Store()
    store.add_spans(
        spans(
            span("t", "c", "second", "a", at=50, owner=False),
            span("t", "b", "first", "a", at=10),
            span("t", "a", "root"),
            span("t", "x", "orphan", "missing", at=5),
        )
    )
    store.add_profiles([upload(sample("f", 20, span_id="a"), sample("f", 30, span_id="b", trace_id="t"))])
    found = trace(store, "t")
    assert found is not None
    assert [(s["name"], s["depth"], s["cpu_ns"]) for s in found["spans"]] == [
        ("root", 0, 20 * MS),
        ("first", 1, 30 * MS),
        ("second", 1, None),
        ("orphan", 0, 0),
    ]
    assert trace(store, "u") is None


@UNHURRIED
@given(st.dictionaries(st.sampled_from("abcdef"), st.sampled_from("abcdefx"), min_size=1))
def test_spans_that_are_each_others_parents(parents: dict[str, str]) -> None:
    """However spans refer to each other, each is there once."""
    store = Store()
    store.add_spans(spans(*(span("t", one, one, parent) for one, parent in parents.items())))
    found = trace(store, "t")
    assert found is not None
    assert sorted(s["span_id"] for s in found["spans"]) == sorted(parents)
