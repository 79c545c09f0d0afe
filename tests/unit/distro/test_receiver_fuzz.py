"""Bodies that nobody would send: each is taken or refused, and what was taken can be shown. See also tests/page/fuzz.py."""

from __future__ import annotations

import gzip

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otel_profiling_distro.page.profile import Selection, profile
from otel_profiling_distro.page.services import overview, routes
from otel_profiling_distro.page.traces import Filter, trace, traces
from otel_profiling_distro.receiver import Store
from otel_profiling_distro.receiver import otlp as otlp_module
from otel_profiling_distro.receiver import pprof as pprof_module
from otel_profiling_distro.receiver.intake import PUSH_PATH, TRACES_PATH, Intake
from otel_profiling_distro.receiver.protos import otel_profiling_pprof_pb2 as pprof
from otel_profiling_distro.receiver.protos import otel_profiling_push_pb2 as push
from otel_profiling_distro.receiver.rules import RefusedError

from .uploads import UNHURRIED

int64 = st.integers(-3, 9) | st.sampled_from([2**63 - 1, -(2**63)])
uint64 = st.integers(0, 5) | st.just(2**64 - 1)
label = st.builds(pprof.Label, key=int64, str=int64, num=int64)
some_profile = st.builds(
    pprof.Profile,
    sample_type=st.lists(st.builds(pprof.ValueType, type=int64, unit=int64), max_size=2),
    sample=st.lists(
        st.builds(
            pprof.Sample,
            location_id=st.lists(uint64, max_size=4),
            value=st.lists(int64, max_size=2),
            label=st.lists(label, max_size=2),
        ),
        max_size=3,
    ),
    location=st.lists(
        st.builds(pprof.Location, id=uint64, line=st.lists(st.builds(pprof.Line, function_id=uint64, line=int64), max_size=2)),
        max_size=3,
    ),
    function=st.lists(st.builds(pprof.Function, id=uint64, name=int64, filename=int64), max_size=3),
    string_table=st.lists(st.sampled_from(["", "cpu", "nanoseconds", "span_id", "trace_id", "span_name", "<b>"]), max_size=9),
    time_nanos=int64,
    duration_nanos=int64,
    period_type=st.none() | st.builds(pprof.ValueType, type=int64, unit=int64),
    period=int64,
).map(lambda message: message.SerializeToString())


def push_of(raw: list[bytes]) -> bytes:
    request = push.PushRequest()
    series = request.series.add()
    series.labels.add(name="service_name", value="shop")
    for one in raw:
        series.samples.add(raw_profile=one)
    return request.SerializeToString()


def spans_of(ids: list[tuple[bytes, bytes, bytes, int, int]]) -> bytes:
    request = ExportTraceServiceRequest()
    spans = request.resource_spans.add().scope_spans.add().spans
    for trace_id, span_id, parent, start, end in ids:
        span = spans.add(trace_id=trace_id, span_id=span_id, parent_span_id=parent)
        span.start_time_unix_nano, span.end_time_unix_nano = start, end
        span.attributes.add(key="pyroscope.profile.id").value.string_value = span_id.hex()
    return request.SerializeToString()


few_bytes = st.sampled_from([b"", b"\x01", b"\x02" * 8, b"\xff" * 300])
times = st.sampled_from([0, 1, 2**64 - 1])
bodies = (
    st.binary(max_size=200)
    | st.lists(some_profile | st.binary(max_size=20) | st.binary(max_size=20).map(gzip.compress), max_size=3).map(push_of)
    | st.lists(st.tuples(few_bytes, few_bytes, few_bytes, times, times), max_size=4).map(spans_of)
)


def damaged(body: bytes, place: int, byte: int) -> bytes:
    return body[: place % (len(body) + 1)] + bytes([byte]) + body[place % (len(body) + 1) + 1 :]


@UNHURRIED
@given(
    bodies,
    st.sampled_from([PUSH_PATH, TRACES_PATH]),
    st.sampled_from([{}, {"content-encoding": "gzip"}, {"content-encoding": "zstd"}]),
    st.booleans(),
    st.none() | st.tuples(st.integers(0, 500), st.integers(0, 255)),
)
def test_bodies(body: bytes, path: str, headers: dict[str, str], compressed: bool, damage: tuple[int, int] | None) -> None:
    """Whatever a body is, it is taken or refused with a client's error; what was taken is shown and given back."""
    if compressed:
        body = gzip.compress(body)
    if damage is not None:
        body = damaged(body, *damage)
    store = Store()
    refusal = None
    try:
        Intake(store, 200, None, None, None).take(path, headers, body)
    except RefusedError as error:
        refusal = error
    if refusal is not None:
        assert 400 <= refusal.status < 500
        assert refusal.words
        return
    assert len(store.samples()) <= len(body)
    for service in overview(store)["services"]:
        routes(store, service["name"])
        for kind in service["kinds"]:
            profile(store, Selection(service=service["name"], kind=kind["kind"])).plain()
    assert len(store.spans()) == sum(line["spans"] for line in traces(store, Filter(limit=10_000))["traces"])
    for line in traces(store, Filter())["traces"]:
        assert trace(store, line["trace_id"]) is not None


def test_profile_that_unfolds(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few bytes that stand for very many frames are refused before those are made."""
    monkeypatch.setattr(pprof_module, "MAX_FRAMES", 1_000)
    message = pprof.Profile(string_table=["", "cpu"], sample_type=[pprof.ValueType(type=1)])
    message.function.add(id=1)
    message.location.add(id=1).line.extend(pprof.Line(function_id=1) for _ in range(100))
    message.sample.add(location_id=[1] * 11, value=[1])
    with pytest.raises(RefusedError, match="more than 1000 frames") as refusal:
        Intake(Store(), 200, None, None, None).take(PUSH_PATH, {}, push_of([message.SerializeToString()]))
    assert refusal.value.status == 413


def test_profiles_that_unfold_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """The profiles of a push are bounded together, once they are decompressed."""
    monkeypatch.setattr(pprof_module, "MAX_BODY", 1_500)
    bomb = gzip.compress(bytes(1_000))
    with pytest.raises(RefusedError) as refusal:
        Intake(Store(), 200, None, None, None).take(PUSH_PATH, {}, push_of([gzip.compress(b""), bomb, bomb]))
    assert refusal.value.status in {400, 413}
    many = [gzip.compress(pprof.Profile(string_table=["x" * 1_000]).SerializeToString())] * 2
    with pytest.raises(RefusedError, match="after decompression") as refusal:
        Intake(Store(), 200, None, None, None).take(PUSH_PATH, {}, push_of(many))
    assert refusal.value.status == 413


def test_too_many_spans(monkeypatch: pytest.MonkeyPatch) -> None:
    """A request with more spans than any exporter sends is refused: two bytes are enough for one."""
    monkeypatch.setattr(otlp_module, "MAX_SPANS", 3)
    with pytest.raises(RefusedError, match="4 spans") as refusal:
        Intake(Store(), 200, None, None, None).take(TRACES_PATH, {}, spans_of([(b"", b"", b"", 0, 0)] * 4))
    assert refusal.value.status == 413
