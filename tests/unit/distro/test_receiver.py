"""The receiver over real HTTP: what it keeps of good requests, and what it answers to bad ones."""

from __future__ import annotations

import base64
import gzip
import http.client
import json
import socket
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue

from otel_profiling_distro.receiver import Frame, Receiver, Refusal, Sample, Span
from otel_profiling_distro.receiver.protos import otel_profiling_pprof_pb2 as pprof
from otel_profiling_distro.receiver.protos import otel_profiling_push_pb2 as push

PUSH = "/push.v1.PusherService/Push"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as receiver:
        yield receiver


def post(receiver: Receiver, path: str, body: bytes, **headers: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection(urlsplit(receiver.url).netloc, timeout=5)
    try:
        connection.request("POST", path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


class Profile:
    """Builds a pprof profile whose stacks are written as function names, leaf first."""

    def __init__(self, *kinds: tuple[str, str], period: int = 10_000_000) -> None:
        self.strings = [""]
        self.message = pprof.Profile(period=period)
        self.message.period_type.CopyFrom(self.kind("cpu", "nanoseconds"))
        self.message.sample_type.extend(self.kind(*kind) for kind in kinds or [("cpu", "nanoseconds")])

    def string(self, text: str) -> int:
        if text not in self.strings:
            self.strings.append(text)
        return self.strings.index(text)

    def kind(self, type_: str, unit: str) -> pprof.ValueType:
        return pprof.ValueType(type=self.string(type_), unit=self.string(unit))

    def add(self, stack: str, *values: int, labels: tuple[tuple[str, str], ...] = ()) -> Profile:
        ids = []
        for function in stack.split():
            ids.append(len(self.message.location) + 1)
            self.message.function.add(id=ids[-1], name=self.string(function), filename=self.string("app.py"))
            self.message.location.add(id=ids[-1]).line.add(function_id=ids[-1], line=7)
        sample = self.message.sample.add(location_id=ids, value=values)
        for key, value in labels:
            sample.label.add(key=self.string(key), str=self.string(value))
        return self

    def encode(self) -> bytes:
        self.message.string_table[:] = self.strings
        return self.message.SerializeToString()


def push_request(*profiles: bytes, service: str = "shop") -> bytes:
    request = push.PushRequest()
    series = request.series.add()
    series.labels.add(name="__name__", value="process_cpu")
    series.labels.add(name="service_name", value=service)
    for profile in profiles:
        series.samples.add(raw_profile=profile)
    return request.SerializeToString()


SOME_PUSH = push_request(Profile().add("leaf", 10_000_000).encode())
SERIES = {"__name__": "process_cpu", "service_name": "shop"}


@pytest.mark.parametrize("compressed_profile", [False, True])
@pytest.mark.parametrize("compressed_body", [False, True])
def test_push(receiver: Receiver, compressed_profile: bool, compressed_body: bool) -> None:
    """A pushed profile is read back whole, whichever of its two wrappings is compressed."""
    labels = (("span_id", "b7"), ("span_id", "b8"), ("span_name", "GET /"))
    profile = Profile().add("leaf caller", 30_000_000, labels=labels).encode()
    body = push_request(gzip.compress(profile) if compressed_profile else profile)
    headers = {"content_encoding": "gzip"} if compressed_body else {}

    status, _ = post(receiver, PUSH, gzip.compress(body) if compressed_body else body, **headers)

    assert status == 200
    stack = (Frame("leaf", "app.py", 7), Frame("caller", "app.py", 7))
    assert receiver.samples() == [Sample(SERIES, labels, stack, 30_000_000, "nanoseconds", "cpu", count=3)]


def test_sample_label() -> None:
    """A label is found by name: the first where there are two, None where there is none."""
    sample = Sample({}, (("k", "1"), ("k", "2")), (), 1, "count", "samples", 1)
    assert sample.label("k") == "1"
    assert sample.label("other") is None


def test_numeric_label(receiver: Receiver) -> None:
    """A label that pprof carries as a number arrives as its digits."""
    profile = Profile().add("leaf", 10_000_000)
    profile.message.sample[0].label.add(key=profile.string("thread_id"), num=42)
    post(receiver, PUSH, push_request(profile.encode()))
    assert receiver.samples()[0].labels == (("thread_id", "42"),)


def test_several_sample_types(receiver: Receiver) -> None:
    """Each value that is not zero is a sample of its own, and only the period's own kind is counted in periods."""
    profile = Profile(("alloc_objects", "count"), ("alloc_space", "bytes"), ("inuse_space", "bytes"))
    post(receiver, PUSH, push_request(profile.add("leaf", 5, 50_000_000, 0).encode()))
    assert [(s.type, s.unit, s.value, s.count) for s in receiver.samples()] == [
        ("alloc_objects", "count", 5, 1),
        ("alloc_space", "bytes", 50_000_000, 1),
    ]


def test_less_than_a_period(receiver: Receiver) -> None:
    """A sample stands for at least one reading."""
    post(receiver, PUSH, push_request(Profile().add("leaf", 1).encode()))
    post(receiver, PUSH, push_request(Profile(period=0).add("leaf", 1).encode()))
    assert [sample.count for sample in receiver.samples()] == [1, 1]


def test_fifty_at_once(receiver: Receiver) -> None:
    """Fifty applications that upload at the same moment are all taken: nothing is lost, nothing refused."""
    profile = Profile().add("leaf", 10_000_000).encode()
    with ThreadPoolExecutor(50) as pool:
        for _ in range(3):
            uploads = [pool.submit(post, receiver, PUSH, push_request(profile, service=f"s{n}")) for n in range(50)]
            uploads += [pool.submit(post, receiver, "/v1/traces", traces_request()) for _ in range(50)]
            assert {upload.result()[0] for upload in uploads} == {200}
    assert Counter(sample.series["service_name"] for sample in receiver.samples()) == {f"s{n}": 3 for n in range(50)}
    assert len(receiver.spans()) == 3 * 50 * 2
    assert receiver.refusals() == []


def test_services_apart(receiver: Receiver) -> None:
    """Samples can be asked for by service."""
    profile = Profile().add("leaf", 10_000_000).encode()
    post(receiver, PUSH, push_request(profile, service="shop"))
    post(receiver, PUSH, push_request(profile, service="bank"))
    assert [sample.series["service_name"] for sample in receiver.samples("bank")] == ["bank"]
    assert len(receiver.samples()) == 2


def test_headers_of_a_push(receiver: Receiver) -> None:
    """Each push is recorded with its headers under lower-case names, its series and the time."""
    before = time.time()
    post(receiver, PUSH, SOME_PUSH, X_Scope_OrgID="tenant", Authorization="Basic dTpw")
    (pushed,) = receiver.pushes()
    assert pushed.headers["x-scope-orgid"] == "tenant"
    assert pushed.headers["authorization"] == "Basic dTpw"
    assert pushed.series == (SERIES,)
    assert pushed.status == 200
    assert before <= pushed.received <= time.time()


def test_server_that_refuses(receiver: Receiver) -> None:
    """With another status set, a push is answered with it and recorded, and its samples are not kept."""
    receiver.push_status = 503
    status, _ = post(receiver, PUSH, push_request(Profile().add("leaf", 10_000_000).encode()))
    assert status == 503
    assert receiver.samples() == []
    assert [pushed.status for pushed in receiver.pushes()] == [503]
    assert [refusal.status for refusal in receiver.refusals()] == [503]


def test_empty_push(receiver: Receiver) -> None:
    """A push without a profile is refused in the words of the real server; a profile without a sample is taken."""
    for empty in (b"", push_request()):
        status, message = post(receiver, PUSH, empty)
        assert (status, json.loads(message)["message"]) == (400, "no profiles received")
    assert receiver.refusals() == [Refusal(400, "no profiles received")] * 2
    assert post(receiver, PUSH, push_request(Profile().encode()))[0] == 200
    assert [pushed.status for pushed in receiver.pushes()] == [400, 400, 200]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"X_Scope_OrgID": "somebody"}, 401),
        ({"X_Scope_OrgID": "team-a"}, 200),
        ({"Authorization": "Basic " + base64.b64encode(b"team-a:secret").decode()}, 200),
        ({"Authorization": "Basic !"}, 401),
        ({"Authorization": "Bearer team-a"}, 401),
    ],
)
def test_tenant(headers: dict[str, str], status: int) -> None:
    """A receiver that was told a tenant takes pushes of that tenant alone; others are recorded, their samples are not kept."""
    with Receiver(tenant="team-a") as receiver:
        answered, message = post(receiver, PUSH, SOME_PUSH, **headers)
        assert answered == status
        assert len(receiver.samples()) == (status == 200)
        assert [pushed.status for pushed in receiver.pushes()] == [status]
        assert receiver.refusals() == ([] if status == 200 else [Refusal(401, "no org id")])
        assert status == 200 or json.loads(message) == {"code": "unauthenticated", "message": "no org id"}


def test_series_limit() -> None:
    """Past the limit new series are refused in the words of the real server, known ones are taken, also in the same push."""

    def push_of_names(*names: str) -> bytes:
        profile = Profile()
        for number, name in enumerate(names):
            # The ids are beside the series: as many of them as there like.
            profile.add("leaf", 10_000_000, labels=(("span_name", name), ("span_id", f"{number}"), ("trace_id", "t")))
        return push_request(profile.encode())

    with Receiver(series_limit=2) as receiver:
        assert post(receiver, PUSH, push_of_names("a", "b", "a", "b"))[0] == 200
        assert receiver.refusals() == []
        status, message = post(receiver, PUSH, push_of_names("a", "c", "b"))
        words = (
            "Maximum active series limit exceeded (2/2), reduce the number of active streams (reduce labels or reduce label "
            "values), or contact your administrator to see if the limit can be increased"
        )
        assert (status, json.loads(message)["message"]) == (429, words)
        assert [sample.label("span_name") for sample in receiver.samples()] == ["a", "b", "a", "b", "a", "b"]
        assert post(receiver, PUSH, push_of_names("b"))[0] == 200
        assert receiver.refusals() == [Refusal(429, words)]


def test_server_that_hangs() -> None:
    """A push that waits for its answer is recorded at once, and stop() ends it instead of waiting for it."""
    receiver = Receiver(push_delay=600)
    receiver.start()
    client = socket.create_connection((urlsplit(receiver.url).hostname, urlsplit(receiver.url).port), 5)
    with client:
        body = SOME_PUSH
        head = f"POST {PUSH} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(body)}\r\n\r\n"
        client.sendall(head.encode() + body)
        deadline = time.monotonic() + 5
        while not receiver.pushes() and time.monotonic() < deadline:
            time.sleep(0.01)
        assert len(receiver.pushes()) == 1

        started = time.monotonic()
        receiver.stop()
        assert time.monotonic() - started < 2
        while client.recv(4096):  # until the end of the connection; a time-out fails the test
            pass


def test_stop_with_an_idle_connection() -> None:
    """Once stopped, a receiver answers nobody, not on connections that were open either; what arrived stays."""
    receiver = Receiver()
    receiver.start()
    connection = http.client.HTTPConnection(urlsplit(receiver.url).netloc, timeout=5)
    connection.request("POST", PUSH, SOME_PUSH)
    connection.getresponse().read()
    kept_alive = connection.sock

    receiver.stop()

    assert kept_alive.recv(1) == b""
    connection.close()
    with pytest.raises(ConnectionRefusedError):
        post(receiver, PUSH, SOME_PUSH)
    assert len(receiver.pushes()) == 1


def test_stop_twice() -> None:
    """Stopping again, or before the start, does nothing."""
    receiver = Receiver()
    receiver.stop()
    receiver.start()
    receiver.stop()
    receiver.stop()


def test_busy_port(receiver: Receiver) -> None:
    """A port that is in use raises OSError."""
    with pytest.raises(OSError, match="in use"):
        Receiver(port=urlsplit(receiver.url).port or 0).start()


def test_url_before_start() -> None:
    """The address is not known before start()."""
    with pytest.raises(RuntimeError, match="start"):
        Receiver().url  # noqa: B018 - the property raises


def traces_request() -> bytes:
    request = ExportTraceServiceRequest()
    resource_spans = request.resource_spans.add()
    resource_spans.resource.attributes.add(key="service.name").value.string_value = "shop"
    spans = resource_spans.scope_spans.add().spans
    spans.add(trace_id=b"\xab" * 16, span_id=b"\xcd" * 8, name="GET /", kind=2, start_time_unix_nano=5, end_time_unix_nano=9)
    spans.add(
        trace_id=b"\xab" * 16,
        span_id=b"\xef" * 8,
        parent_span_id=b"\xcd" * 8,
        name="step",
        kind=1,
        attributes=[
            KeyValue(key="n", value=AnyValue(int_value=3)),
            KeyValue(key="ok", value=AnyValue(bool_value=True)),
            KeyValue(key="list", value=AnyValue(array_value=ArrayValue(values=[AnyValue(string_value="a")]))),
            KeyValue(key="none", value=AnyValue()),
        ],
    )
    return request.SerializeToString()


@pytest.mark.parametrize("compressed", [False, True])
def test_traces(receiver: Receiver, compressed: bool) -> None:
    """Exported spans are read back with hex ids, plain attribute values and their resource."""
    body = traces_request()
    headers = {"content_encoding": "gzip"} if compressed else {}
    status, _ = post(receiver, "/v1/traces", gzip.compress(body) if compressed else body, **headers)
    assert status == 200
    resource = {"service.name": "shop"}
    attributes = {"n": 3, "ok": True, "list": ("a",), "none": None}
    assert receiver.spans("shop") == [
        Span("ab" * 16, "cd" * 8, "", "GET /", 2, 5, 9, {}, resource),
        Span("ab" * 16, "ef" * 8, "cd" * 8, "step", 1, 0, 0, attributes, resource),
    ]
    assert receiver.spans("bank") == []


@pytest.mark.parametrize("path", ["/v1/metrics", "/v1/logs"])
def test_other_signals(receiver: Receiver, path: str) -> None:
    """Metrics and logs are accepted and dropped."""
    assert post(receiver, path, b"anything") == (200, "")


def push_of(**fields: object) -> bytes:
    return push_request(pprof.Profile(**fields).SerializeToString())


BROKEN = {
    "no protobuf": (PUSH, b"\xff\xff\xff", "", "not a push.v1.PushRequest"),
    "no profile": (PUSH, push_request(b"\xff\xff\xff"), "", "not a pprof profile"),
    "missing string": (PUSH, push_of(sample_type=[pprof.ValueType(type=9)]), "", "does not hold"),
    "missing location": (PUSH, push_of(string_table=[""], sample=[pprof.Sample(location_id=[9])]), "", "does not hold"),
    "too many values": (PUSH, push_of(string_table=[""], sample=[pprof.Sample(value=[1])]), "", "does not hold"),
    "no gzip": (PUSH, b"plain", "gzip", "not gzip"),
    "gzip cut short": (PUSH, gzip.compress(push_request())[:-9], "gzip", "ends too early"),
    "another encoding": (PUSH, b"", "zstd", "only gzip"),
    "no traces": ("/v1/traces", b"\xff\xff\xff", "", "not an OTLP"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_body(receiver: Receiver, case: str, capfd: pytest.CaptureFixture[str]) -> None:
    """A body that can't be read is answered with 400 and the reason, recorded nowhere, and logged nowhere."""
    path, body, encoding, reason = BROKEN[case]
    status, message = post(receiver, path, body, content_encoding=encoding)
    assert status == 400
    assert reason in message
    assert [refusal.status for refusal in receiver.refusals()] == [400]
    assert receiver.pushes() == []
    assert receiver.samples() == []
    assert receiver.spans() == []
    assert capfd.readouterr().err == ""


def test_gzip_bomb(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """A body that is too large once decompressed is refused, before it is held in memory."""
    monkeypatch.setattr("otel_profiling_distro.receiver.body.MAX_BODY", 2000)
    status, message = post(receiver, PUSH, gzip.compress(bytes(1_000_000)), content_encoding="gzip")
    assert status == 413
    assert "more than 2000 bytes" in message


def test_unknown_path(receiver: Receiver) -> None:
    """Anything else is 404 and says where profiles go, for agents that speak an older API."""
    status, message = post(receiver, "/ingest", b"")
    assert status == 404
    assert PUSH in message


def test_no_length(receiver: Receiver) -> None:
    """A body of unknown length is refused rather than waited for."""
    connection = http.client.HTTPConnection(urlsplit(receiver.url).netloc, timeout=5)
    connection.putrequest("POST", PUSH)
    connection.putheader("transfer-encoding", "chunked")
    connection.endheaders()
    assert connection.getresponse().status == 411
    connection.close()


def test_get(receiver: Receiver) -> None:
    """A look with a browser gets a clear word."""
    connection = http.client.HTTPConnection(urlsplit(receiver.url).netloc, timeout=5)
    connection.request("GET", "/")
    response = connection.getresponse()
    assert response.status == 405
    assert b"POST" in response.read()
    connection.close()


def test_keep_alive(receiver: Receiver) -> None:
    """Agents keep their connection: many requests, good and bad, go over one."""
    connection = http.client.HTTPConnection(urlsplit(receiver.url).netloc, timeout=5)
    statuses = []
    for body in (SOME_PUSH, b"\xff\xff\xff", SOME_PUSH):
        connection.request("POST", PUSH, body)
        response = connection.getresponse()
        response.read()
        statuses.append((response.status, connection.sock.getsockname()))
    own_port = statuses[0][1]
    connection.close()
    assert statuses == [(200, own_port), (400, own_port), (200, own_port)]
