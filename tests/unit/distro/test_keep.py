"""What `--output` keeps: files that other tools can open, with exactly what came, and with names that are safe."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from pathlib import Path

import pytest
from google.protobuf.json_format import Parse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otel_profiling_distro.page.keep import file_name, keep
from otel_profiling_distro.receiver import Sample, Store
from otel_profiling_distro.receiver.otlp import decode_traces
from otel_profiling_distro.receiver.pprof import decode_profile

from .uploads import profiles, sample

HOSTILE = "../../etc/passwd"


@pytest.fixture
def store() -> Store:
    store = Store()
    store.add_profiles(
        profiles(
            sample("leaf caller", 30, span_name="GET /", span_id="s1", trace_id="t1"),
            sample("other caller", 20, span_name="GET /", span_id="s2", trace_id="t2"),
            sample("f", 10, span_name=HOSTILE, span_id="s3", trace_id="t3"),
            sample("g", 40),
            sample("h", 500, clock="wall"),
        )
    )
    return store


def stacks(samples: list[Sample]) -> Counter[tuple[object, ...]]:
    result: Counter[tuple[object, ...]] = Counter()
    for one in samples:
        result[one.stack] += one.value
    return result


def read(file: Path) -> Counter[tuple[object, ...]]:
    return stacks(decode_profile(gzip.decompress(file.read_bytes()), {}).samples)


def test_profiles(store: Store, tmp_path: Path) -> None:
    """There is a pprof file for each route and for each trace, with the stacks and values of its samples."""
    keep(store, tmp_path)
    samples = store.samples()
    route = tmp_path / "routes" / f"{file_name('GET /')}.pb.gz"
    assert read(route) == stacks([one for one in samples if one.label("span_name") == "GET /"])
    assert read(tmp_path / "traces" / "t1.pb.gz") == stacks(samples[:1])
    outside = tmp_path / "routes" / f"{file_name('outside any span')}"
    assert read(outside.with_name(f"{outside.name}.pb.gz")) == stacks(samples[3:4])
    assert read(outside.with_name(f"{outside.name}.wall.pb.gz")) == stacks(samples[4:])
    assert sorted(file.name for file in (tmp_path / "traces").iterdir()) == ["t1.pb.gz", "t2.pb.gz", "t3.pb.gz"]


def test_names_from_the_network(store: Store, tmp_path: Path) -> None:
    """No name leads out of the folder, also where it is a service's."""
    store.add_profiles(profiles(sample("f", 10, HOSTILE, span_name="/", span_id="s", trace_id=HOSTILE)))
    folder = tmp_path / "a" / "b"
    folder.mkdir(parents=True)
    keep(store, folder)
    outside = [file for file in tmp_path.rglob("*") if file.is_file() and folder not in file.parents]
    assert outside == []
    assert len(list((folder / "routes").iterdir())) == 2  # a folder for each service
    assert len(list((folder / "traces").iterdir())) == 4


@pytest.mark.parametrize(
    "text", ["", ".", "..", "/", "GET /", "GET_", "a" * 500, "\0", "con", "\U0001f40d", "x/../../y", "-rf"]
)
def test_file_name(text: str) -> None:
    """A name becomes one plain path component, and different names different ones."""
    name = file_name(text)
    assert name.strip(".")
    assert Path(name).name == name
    assert name.isascii()
    assert len(name) < 100
    assert file_name(text + "!") != name


def test_spans(tmp_path: Path) -> None:
    """The spans are one export request in OTLP's JSON, with everything that the exporter said."""
    request = ExportTraceServiceRequest()
    for service in ("shop", "bank"):
        resource = request.resource_spans.add()
        resource.resource.attributes.add(key="service.name").value.string_value = service
        scope = resource.scope_spans.add()
        scope.scope.name = "library"
        span = scope.spans.add(trace_id=bytes(range(16)), span_id=b"\xab" * 8, parent_span_id=b"\x01" * 8, name="GET /", kind=2)
        span.start_time_unix_nano = 2**60
        span.attributes.add(key="n").value.int_value = 2**40
        span.events.add(name="retry", time_unix_nano=5)
        span.links.add(trace_id=b"\x05" * 16, span_id=b"\x06" * 8)
        span.status.code = 2
    store = Store()
    store.add_spans(decode_traces(request.SerializeToString()))
    keep(store, tmp_path)
    kept = json.loads((tmp_path / "traces.json").read_text())
    span_ = kept["resourceSpans"][0]["scopeSpans"][0]["spans"][0]
    assert span_["traceId"] == bytes(range(16)).hex()
    assert span_["parentSpanId"] == "01" * 8
    assert span_["links"] == [{"traceId": "05" * 16, "spanId": "06" * 8}]
    assert (span_["kind"], span_["startTimeUnixNano"]) == (2, str(2**60))
    # But for the ids, which OTLP has in hex, it is protobuf's own JSON.
    for resource in kept["resourceSpans"]:
        for span in resource["scopeSpans"][0]["spans"]:
            for one in (span, *span["links"]):
                for name in ("traceId", "spanId", "parentSpanId"):
                    one.pop(name, None)
    for resource in request.resource_spans:
        for span in resource.scope_spans[0].spans:
            span.trace_id = span.span_id = span.parent_span_id = b""
            span.links[0].trace_id = span.links[0].span_id = b""
    assert Parse(json.dumps(kept), ExportTraceServiceRequest()) == request


def test_nothing(tmp_path: Path) -> None:
    """Where nothing came there is an empty request, and no folder of traces."""
    keep(Store(), tmp_path)
    assert json.loads((tmp_path / "traces.json").read_text()) == {"resourceSpans": []}
    assert not (tmp_path / "traces").exists()
