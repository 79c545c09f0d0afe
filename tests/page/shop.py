"""A small shop's uploads, of which every number is known."""

from __future__ import annotations

from collections.abc import Callable

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otel_profiling_distro.receiver.protos import otel_profiling_pprof_pb2 as pprof
from otel_profiling_distro.receiver.protos import otel_profiling_push_pb2 as push

MS = 1_000_000
START = 1_790_000_000_000_000_000
HOSTILE = '<script>alert(1)</script><img src=x onerror="alert(2)">'

Work = tuple[str, int, dict[str, str]]
"""Functions from the outermost on, as ``name:line``; nanoseconds; labels."""


def profile(service: str, work: list[Work], *, start_ns: int = START, seconds: int = 10, **series: str) -> bytes:
    """Return a push."""
    strings: dict[str, int] = {"": 0}

    def string(text: str) -> int:
        return strings.setdefault(text, len(strings))

    message = pprof.Profile(time_nanos=start_ns, duration_nanos=seconds * 1000 * MS, period=10 * MS)
    message.sample_type.add(type=string("cpu"), unit=string("nanoseconds"))
    message.period_type.CopyFrom(message.sample_type[0])
    places: dict[str, int] = {}
    for stack, value, labels in work:
        ids = []
        for place in reversed(stack.split(" > ")):
            if place not in places:
                function, line = place.rsplit(":", 1)
                places[place] = len(places) + 1
                message.function.add(id=places[place], name=string(function), filename=string("/srv/shop/app.py"))
                message.location.add(id=places[place]).line.add(function_id=places[place], line=int(line))
            ids.append(places[place])
        sample = message.sample.add(location_id=ids, value=[value])
        for key, text in labels.items():
            sample.label.add(key=string(key), str=string(text))
    message.string_table.extend(strings)
    request = push.PushRequest()
    labelled = request.series.add()
    for key, text in {"__name__": "process_cpu", "service_name": service, **series}.items():
        labelled.labels.add(name=key, value=text)
    labelled.samples.add(raw_profile=message.SerializeToString())
    return request.SerializeToString()


def spans(service: str, *spans: tuple[str, str, str, str, int, int]) -> bytes:
    """Return an export of spans: trace id, span id, parent id, name, offset and duration in ms; roots own their profile."""
    request = ExportTraceServiceRequest()
    resource = request.resource_spans.add()
    resource.resource.attributes.add(key="service.name").value.string_value = service
    scope = resource.scope_spans.add()
    for trace_id, span_id, parent, name, offset, duration in spans:
        span = scope.spans.add(trace_id=bytes.fromhex(trace_id), span_id=bytes.fromhex(span_id), name=name, kind=2)
        span.parent_span_id = bytes.fromhex(parent)
        span.start_time_unix_nano = START + offset * MS
        span.end_time_unix_nano = START + (offset + duration) * MS
        if not parent:
            span.attributes.add(key="pyroscope.profile.id").value.string_value = span_id
    return request.SerializeToString()


BUY, FIND, ODD = "a1" * 16, "b2" * 16, "c3" * 16
BUY_SPAN, FIND_SPAN, ODD_SPAN = "a1" * 8, "b2" * 8, "c3" * 8


def labels(trace_id: str, span_id: str, name: str) -> dict[str, str]:
    return {"trace_id": trace_id, "span_id": span_id, "span_name": name}


BUYING = labels(BUY, BUY_SPAN, "POST /buy")
FINDING = labels(FIND, FIND_SPAN, "GET /find")
WORK: list[Work] = [
    ("main:1 > serve:5 > buy:10 > price:21", 300 * MS + 1, BUYING),
    ("main:1 > serve:5 > buy:10 > price:22", 100 * MS + 2, BUYING),
    ("main:1 > serve:5 > buy:11 > fraud:31 > price:22", 50 * MS, BUYING),
    ("main:1 > serve:5 > buy:11", 10 * MS, BUYING),
    ("main:1 > serve:5 > find:40 > score:41", 200 * MS + 7, FINDING),
    ("main:1 > serve:5 > find:40 > score:41 > score:42", 20 * MS, FINDING),
    ("main:1 > idle:50", 30 * MS, {}),
    (f"main:1 > {HOSTILE}:60", 40 * MS, labels(ODD, ODD_SPAN, HOSTILE)),
]


def upload_shop(upload: Callable[..., None]) -> None:
    """Upload what the shop did, and a little of another service."""
    upload(profile("shop", WORK))
    upload(
        spans=spans(
            "shop",
            (BUY, BUY_SPAN, "", "POST /buy", 0, 1000),
            (BUY, "a2" * 8, BUY_SPAN, "charge card", 100, 600),
            (BUY, "a3" * 8, "a2" * 8, "sign", 200, 100),
            (FIND, FIND_SPAN, "", "GET /find", 2000, 400),
            (ODD, ODD_SPAN, "", HOSTILE, 3000, 80),
        )
    )
    upload(profile("bank", [("main:1 > settle:2", 70 * MS, {})]))
    upload(profile("shop", [("main:1 > wait:3", 900 * MS, BUYING)], clock="wall"))
    upload(spans=spans("bank", (BUY, "d4" * 8, "a2" * 8, "settle", 300, 200)))
