"""The report: what it makes of samples and spans, and how it looks with and without a terminal."""

from __future__ import annotations

import io

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from rich.console import Console

from otel_profiling_distro.receiver import Frame, Receiver, Sample, Span
from otel_profiling_distro.receiver.model import Profile
from otel_profiling_distro.receiver.otlp import decode_traces
from otel_profiling_distro.report import HotFunction, Report, Route, render, summarise

MS = 1_000_000
TRACE = "ab" * 16


def sample(stack: str, ms: int = 10, *, unit: str = "nanoseconds", **labels: str) -> Sample:
    frames = tuple(Frame(function, "/srv/app/shop.py", 7) for function in stack.split())
    return Sample({"service_name": "shop"}, tuple(labels.items()), frames, ms * MS, unit, "cpu", ms // 10)


def span(
    name: str, span_id: str, parent: str = "", *, at: int = 0, ms: int = 100, trace: str = TRACE, owns: bool | None = None
) -> Span:
    """A span; as in the default scope it owns a profile where it has no parent."""
    owner = not parent if owns is None else owns
    attributes = {"pyroscope.profile.id": span_id} if owner else {}
    return Span(trace, span_id, parent, name, 1, at * MS, (at + ms) * MS, attributes, {"service.name": "shop"})


def routes(report: Report) -> dict[str | None, Route]:
    return {route.name: route for route in report.routes}


def test_nothing() -> None:
    """No samples and no spans make an empty report, not a division by zero."""
    report = summarise([], [])
    assert report == Report(0, 0, 0, 0, 0, 0, 0, (), None)
    assert "0 samples" in text(report)


def test_routes() -> None:
    """CPU time is added up by span_name: most first, work outside any span last, however much that is."""
    report = summarise(
        [
            sample("a", 10, span_name="GET /a", span_id="1"),
            sample("b", 20, span_name="GET /b", span_id="2"),
            sample("b", 30, span_name="GET /b", span_id="3"),
            sample("start", 40),
        ],
        [span("GET /a", "1"), span("GET /b", "2"), span("GET /b", "3")],
    )
    assert [(r.name, r.cpu_ns // MS, r.share, r.spans, r.cpu_per_span_ns) for r in report.routes] == [
        ("GET /b", 50, 0.5, 2, 25 * MS),
        ("GET /a", 10, 0.1, 1, 10 * MS),
        (None, 40, 0.4, 0, None),
    ]
    assert (report.cpu_ns, report.samples, report.samples_in_spans) == (100 * MS, 10, 6)


def test_route_that_no_sample_hit() -> None:
    """A route too quick to be sampled is still listed, with no CPU time."""
    route = routes(summarise([], [span("GET /quick", "1")]))["GET /quick"]
    assert (route.cpu_ns, route.share, route.spans, route.hottest) == (0, 0.0, 1, ())


def test_child_spans() -> None:
    """Only spans that own a profile are routes: a child's CPU time is its local root's."""
    report = summarise([sample("f", span_name="GET /", span_id="1")], [span("GET /", "1"), span("step", "2", "1")])
    assert list(routes(report)) == ["GET /"]


def test_time_on_the_wall() -> None:
    """Samples by the clock on the wall are no CPU time, and neither are bytes."""
    wall = sample("f", 500, span_name="GET /")
    wall = Sample({**wall.series, "clock": "wall"}, wall.labels, wall.stack, wall.value, wall.unit, wall.type, wall.count)
    report = summarise(iter([sample("f", 10, span_name="GET /"), wall, sample("f", 70, unit="bytes")]), [])
    assert (report.cpu_ns, report.samples) == (10 * MS, 1)


def test_report_of_a_store() -> None:
    """What a receiver keeps gives the same report as the samples and spans that it hands out."""
    with Receiver() as receiver:
        samples = [sample("f", 10, span_name="GET /", span_id="1"), sample("g", 30, span_name="GET /", span_id="1")]
        receiver.store.add_profiles([Profile(0, 0, samples[0].series, samples)])
        request = ExportTraceServiceRequest()
        resource = request.resource_spans.add()
        resource.resource.attributes.add(key="service.name").value.string_value = "shop"
        exported = resource.scope_spans.add().spans.add(trace_id=b"\1" * 16, span_id=b"\2" * 8, name="GET /")
        exported.attributes.add(key="pyroscope.profile.id").value.string_value = "1"
        receiver.store.add_spans(decode_traces(request.SerializeToString()))
        streamed = summarise(receiver.store.each_sample("shop"), receiver.store.span_records("shop"))
        assert streamed == summarise(receiver.samples("shop"), receiver.spans("shop"))
        assert streamed.trace is not None
        assert streamed.trace.cpu_ns == 40 * MS


def test_unsampled_spans() -> None:
    """Samples with a name but no id, as unsampled spans give, carry a span and count for their route."""
    report = summarise([sample("f", span_name="GET /")], [])
    assert report.samples_in_spans == report.samples == 1
    assert routes(report)["GET /"].cpu_per_span_ns is None
    assert report.trace is None


def test_samples_of_memory() -> None:
    """What is not measured in time is no CPU time."""
    assert summarise([sample("f", unit="bytes", span_name="GET /")], []).routes == ()


def test_ids_that_no_span_owns() -> None:
    """Span ids on samples are held against the exported spans' pyroscope.profile.id."""
    report = summarise([sample("f", span_id="1"), sample("f", span_id="9")], [span("GET /", "1")])
    assert (report.profile_ids, report.profile_ids_exported) == (2, 1)


def test_hottest_functions() -> None:
    """Functions rank by the time in themselves, not in what they call; only the first three are listed."""
    stacks = {"d main": 10, "a main": 40, "b a main": 30, "c main": 20}
    (route,) = summarise([sample(stack, ms, span_name="GET /") for stack, ms in stacks.items()], []).routes
    assert route.hottest == (
        HotFunction("a", "shop.py", 40 * MS, 0.4),
        HotFunction("b", "shop.py", 30 * MS, 0.3),
        HotFunction("c", "shop.py", 20 * MS, 0.2),
    )


@pytest.mark.parametrize(
    ("stack", "function"),
    [
        ("<genexpr> total main", "total"),  # as Python 3.10 names it
        ("total.<locals>.<listcomp> total main", "total"),  # as later ones do
        ("<lambda> <lambda> total", "total"),
        ("<module>", "<module>"),
        ("<lambda>", "<lambda>"),
        ("", "(no Python frame)"),
    ],
)
def test_function_without_a_name(stack: str, function: str) -> None:
    """The time of a comprehension or lambda is that of the nearest function with a name, where there is one."""
    (route,) = summarise([sample(stack, span_name="GET /")], []).routes
    assert [hot.function for hot in route.hottest] == [function]


def test_trace_tree() -> None:
    """A trace is shown as a tree by parent and start time, with the profile of each span that owns one."""
    report = summarise(
        [sample("f", 60, span_id="1"), sample("g", 20, span_id="1")],
        [
            span("late", "3", "1", at=50, ms=40),
            span("early", "2", "1", at=10, ms=30),
            span("root", "1"),
            span("leaf", "4", "2", at=15, ms=5),
        ],
    )
    trace = report.trace
    assert trace is not None
    assert (trace.trace_id, trace.duration_ns, trace.cpu_ns) == (TRACE, 100 * MS, 80 * MS)
    (root,) = trace.roots
    assert (root.name, root.profile_id, root.cpu_ns) == ("root", "1", 80 * MS)
    assert [hot.function for hot in root.hottest] == ["f", "g"]
    early, late = root.children
    assert [(early.name, early.offset_ns, early.profile_id), (late.name, late.offset_ns, late.profile_id)] == [
        ("early", 10 * MS, None),
        ("late", 50 * MS, None),
    ]
    assert [child.name for child in early.children] == ["leaf"]


def test_parent_in_another_service() -> None:
    """A span whose parent was not exported here is a root."""
    trace = summarise([sample("f", span_id="1")], [span("GET /", "1", parent="77", owns=True)]).trace
    assert trace is not None
    assert [root.name for root in trace.roots] == ["GET /"]


def test_scope_all() -> None:
    """Where every span owns a profile, each span of the tree shows its own."""
    spans = [span("root", "1"), span("step", "2", "1", owns=True)]
    trace = summarise([sample("f", 20, span_id="1"), sample("g", 30, span_id="2")], spans).trace
    assert trace is not None
    assert trace.cpu_ns == 50 * MS
    assert [(s.cpu_ns // MS, s.hottest[0].function) for s in (trace.roots[0], trace.roots[0].children[0])] == [
        (20, "f"),
        (30, "g"),
    ]


def chosen(*traces: tuple[str, int, int]) -> str:
    """The id of the trace shown out of some, given as id, number of spans and CPU time in ms; each lasts 100 ms."""
    spans = [
        span("span", f"{trace}{number}", f"{trace}0" if number else "", trace=trace)
        for trace, count, _ in traces
        for number in range(count)
    ]
    trace = summarise([sample("f", ms, span_id=f"{trace}0") for trace, _, ms in traces], spans).trace
    assert trace is not None
    return trace.trace_id


def test_trace_with_several_spans() -> None:
    """A trace with several spans is shown rather than one with more CPU time; past a few, CPU time decides."""
    assert chosen(("a", 1, 90), ("b", 3, 10)) == "b"
    assert chosen(("a", 3, 90), ("b", 8, 10)) == "a"


def test_trace_that_seems_too_busy() -> None:
    """A trace with more CPU time than it took, as a sampler that catches up gives, is shown only for want of another."""
    assert chosen(("a", 3, 120), ("b", 3, 80)) == "b"
    assert chosen(("a", 3, 120)) == "a"


def text(report: Report, width: int = 110, encoding: str = "utf-8", **options: bool) -> str:
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="replace")
    Console(file=stream, width=width, highlight=False, **options).print(render(report, "shop"))
    stream.seek(0)
    return stream.read()


@pytest.fixture
def report() -> Report:
    return summarise(
        [sample("price_basket", 60, span_name="POST /[buy]", span_id="00f067aa0ba902b7"), sample("boot", 20)],
        [
            span("POST /[buy]", "00f067aa0ba902b7"),
            span("price [x]", "22" * 8, "00f067aa0ba902b7", at=10, ms=40),
            span("end", "33" * 8, "00f067aa0ba902b7"),
        ],
    )


def test_plain_text(report: Report) -> None:
    """Without a terminal the report is text without escape codes, within the width, names untouched by markup."""
    shown = text(report)
    assert "\x1b" not in shown
    assert max(map(len, shown.splitlines())) <= 110
    for expected in ("POST /[buy]", "60.0 ms", "75.0%", "outside any span", "75.0% of the samples", "1 of 1 span ids"):
        assert expected in shown
    for expected in (TRACE, "└─ price [x]", "00f067aa0ba902b7", "price_basket  shop.py"):
        assert expected in shown


def test_names_that_a_terminal_would_obey() -> None:
    """Control characters in the name of a span, a function or a profile are shown, and none reaches the terminal."""
    hostile, shown_as = "\x1b]0;title\x07\x9b31m\u202e", r"\x1b]0;title\x07\x9b31m\u202e"
    spans = [
        span(f"span{hostile}", f"id{hostile}"),
        span(f"child{hostile}", "22" * 8, f"id{hostile}"),
    ]
    report = summarise([sample(f"function{hostile}", 60, span_name=f"span{hostile}", span_id=f"id{hostile}")], spans)
    stream = io.StringIO()
    Console(file=stream, width=300, highlight=False).print(render(report, f"service{hostile}"))
    shown = stream.getvalue()
    for name in ("span", "id", "child", "function", "service"):
        assert name + shown_as in shown
    assert all(character.isprintable() or character == "\n" for character in shown)


def test_terminal(report: Report) -> None:
    """In a terminal there are colours."""
    assert "\x1b[" in text(report, force_terminal=True)


def test_narrow_terminal(report: Report) -> None:
    """Where there is little room the report wraps or shortens; it does not fail."""
    assert max(map(len, text(report, width=40).splitlines())) <= 40


def test_terminal_of_the_usual_width() -> None:
    """In 80 columns the names of the hottest functions are there, beside a route of any length."""
    route = "GET /recommend/<int:customer>/for/<day>"
    report = summarise([sample("compare_tastes", 60, span_name=route, span_id="a")], [span(route, "a")])
    shown = text(report, width=80)
    assert max(map(len, shown.splitlines())) <= 80
    assert "100% compare_tastes" in shown
    assert "60.0 ms" in shown


def test_ascii(report: Report) -> None:
    """Bars are of hashes where the encoding has no block elements."""
    assert "#####" in text(report, encoding="ascii")


def test_share_of_a_bar(report: Report) -> None:
    """The longest share fills its bar, the others are in proportion to it."""
    lines = [line for line in text(report).splitlines() if "%" in line]
    assert [line.count("█") for line in lines[:2]] == [12, 4]
