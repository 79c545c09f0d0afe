"""Reads the traces that OpenTelemetry exporters send with OTLP over HTTP.

Spans are kept as they came, in protobuf, beside the few fields that lists need: a third of what objects take, and nothing of
what an exporter said is lost to whoever wants all of it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1 import trace_pb2

from .body import BodyError, BodyTooLargeError
from .model import PROFILE_ID, Span

MAX_SPANS = 100_000
"""In one request; exporters send 512 at a time."""


class Source(NamedTuple):
    """Who made spans, in protobuf."""

    resource: bytes
    scope: bytes
    service: str


@dataclass(slots=True)
class SpanRecord:
    """One span: what lists need of it, and the whole of it in protobuf. Ids are lower-case hex."""

    trace_id: str
    span_id: str
    parent_span_id: str
    name: str
    kind: int
    start_ns: int
    end_ns: int
    profile_id: str | None
    failed: bool
    source: int
    """Index among the sources of the segment that holds it."""
    encoded: bytes


@dataclass(frozen=True, slots=True)
class EncodedSpans:
    """Spans of one source."""

    source: Source
    spans: list[SpanRecord]


def decode_traces(body: bytes) -> list[EncodedSpans]:
    """Return the spans of an ExportTraceServiceRequest.

    Raises:
        BodyTooLargeError: it has more than `MAX_SPANS`.
        BodyError: `body` is no such request.
    """
    try:
        request = ExportTraceServiceRequest.FromString(body)
    except DecodeError as error:
        raise BodyError(f"not an OTLP ExportTraceServiceRequest: {error}") from error
    count = sum(len(scope.spans) for resource in request.resource_spans for scope in resource.scope_spans)
    if count > MAX_SPANS:
        raise BodyTooLargeError(f"{count} spans in one request; {MAX_SPANS} are taken")
    result: list[EncodedSpans] = []
    for resource_spans in request.resource_spans:
        resource = resource_spans.resource.SerializeToString(deterministic=True)
        service = str(_attributes(resource_spans.resource.attributes).get("service.name", ""))
        for scope_spans in resource_spans.scope_spans:
            source = Source(resource, scope_spans.scope.SerializeToString(deterministic=True), service)
            result.append(EncodedSpans(source, [_record(span) for span in scope_spans.spans]))
    return result


def _record(span: trace_pb2.Span) -> SpanRecord:
    profile_id = next((pair.value.string_value for pair in span.attributes if pair.key == PROFILE_ID), None)
    return SpanRecord(
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_span_id=span.parent_span_id.hex(),
        name=span.name,
        kind=span.kind,
        start_ns=span.start_time_unix_nano,
        end_ns=span.end_time_unix_nano,
        profile_id=profile_id or None,
        failed=span.status.code == trace_pb2.Status.STATUS_CODE_ERROR,
        source=0,
        encoded=span.SerializeToString(),
    )


def whole_span(record: SpanRecord, source: Source) -> Span:
    """Return a span with its attributes and its resource."""
    span = trace_pb2.Span.FromString(record.encoded)
    return Span(
        trace_id=record.trace_id,
        span_id=record.span_id,
        parent_span_id=record.parent_span_id,
        name=record.name,
        kind=record.kind,
        start_ns=record.start_ns,
        end_ns=record.end_ns,
        attributes=_attributes(span.attributes),
        resource=_attributes(Resource.FromString(source.resource).attributes),
    )


def request_of(batches: Iterable[tuple[Source, Iterable[SpanRecord]]]) -> ExportTraceServiceRequest:
    """Return spans as an exporter sends them, all that it said included."""
    request = ExportTraceServiceRequest()
    for source, spans in batches:
        resource_spans = request.resource_spans.add(resource=Resource.FromString(source.resource))
        scope_spans = resource_spans.scope_spans.add(scope=InstrumentationScope.FromString(source.scope))
        for span in spans:
            scope_spans.spans.append(trace_pb2.Span.FromString(span.encoded))
    return request


def _attributes(pairs: Iterable[KeyValue]) -> dict[str, Any]:
    return {pair.key: _value(pair.value) for pair in pairs}


def _value(value: AnyValue) -> Any:
    kind = value.WhichOneof("value")
    if kind is None:
        return None
    if kind == "array_value":
        return tuple(_value(item) for item in value.array_value.values)
    if kind == "kvlist_value":
        return _attributes(value.kvlist_value.values)
    return getattr(value, kind)
