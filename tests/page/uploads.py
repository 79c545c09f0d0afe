"""Makes what applications upload, the same every time: requests, stacks of a framework's depth, spans with attributes."""

from __future__ import annotations

import gzip
import random
from collections.abc import Iterator

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otel_profiling_distro.receiver.protos import otel_profiling_pprof_pb2 as pprof
from otel_profiling_distro.receiver.protos import otel_profiling_push_pb2 as push

PUSH = "/push.v1.PusherService/Push"
TRACES = "/v1/traces"
ROUTES = ("GET /search", "POST /checkout", "GET /recommend/<int:customer>", "GET /report", "GET /")
MS = 1_000_000


def _stacks(route: int) -> list[list[int]]:
    """Return 3,000 stacks, leaf first: much in common, as of a framework, then a route's own, then one of many ends."""
    chance = random.Random(route)
    result = []
    for _ in range(3_000):
        own = [100 + 20 * route + chance.randrange(4) for _ in range(4)]
        leaves = [200 + chance.randrange(199) for _ in range(chance.randrange(4))]
        result.append([*range(1, 16), *own, *leaves][::-1])
    return result


_STACKS = [_stacks(route) for route in range(len(ROUTES))]


class Traffic:
    """Requests of a service that never ends.

    Args:
        service: Its name.
        seed: Other numbers, other requests.
        start_ns: When it begins.
    """

    def __init__(self, service: str, seed: int, start_ns: int) -> None:
        self.service = service
        self.now = start_ns
        self._random = random.Random(seed)

    def seconds(self, seconds: int, requests: int, children: int, samples: int) -> tuple[bytes, bytes]:
        """Return the push and the trace request of so many seconds with so many requests and samples."""
        strings: dict[str, int] = {"": 0}

        def string(text: str) -> int:
            return strings.setdefault(text, len(strings))

        profile = pprof.Profile(time_nanos=self.now, duration_nanos=seconds * 1000 * MS, period=10 * MS)
        profile.sample_type.add(type=string("cpu"), unit=string("nanoseconds"))
        profile.period_type.CopyFrom(profile.sample_type[0])
        for number in range(1, 400):
            profile.function.add(
                id=number, name=string(f"function_{number}"), filename=string(f"/srv/app/module_{number % 40}.py")
            )
            profile.location.add(id=number).line.add(function_id=number, line=10 + number % 90)
        traces = ExportTraceServiceRequest()
        resource = traces.resource_spans.add()
        resource.resource.attributes.add(key="service.name").value.string_value = self.service
        spans = resource.scope_spans.add().spans
        ids = []
        for number in range(requests):
            route = self._random.randrange(len(ROUTES))
            trace_id, span_id = self._random.randbytes(16), self._random.randbytes(8)
            ids.append((trace_id.hex(), span_id.hex(), route))
            begin = self.now + number * seconds * 1000 * MS // requests
            root = spans.add(trace_id=trace_id, span_id=span_id, name=ROUTES[route], kind=2)
            root.start_time_unix_nano, root.end_time_unix_nano = begin, begin + 80 * MS
            root.attributes.add(key="pyroscope.profile.id").value.string_value = span_id.hex()
            for key in ("http.method", "http.target", "http.user_agent", "net.peer.ip", "http.flavor", "http.route"):
                root.attributes.add(key=key).value.string_value = f"{key} of {route} {number % 50}"
            for child in range(children):
                inner = spans.add(trace_id=trace_id, span_id=self._random.randbytes(8), parent_span_id=span_id, kind=1)
                inner.name = f"step {child}"
                inner.start_time_unix_nano, inner.end_time_unix_nano = begin + child * MS, begin + (child + 5) * MS
        for _ in range(samples):
            trace_id, span_id, route = self._random.choice(ids)
            # Few stacks are met often, many seldom.
            stack = _STACKS[route][int(self._random.random() ** 3 * len(_STACKS[route]))]
            sample = profile.sample.add(location_id=stack, value=[10 * MS])
            for key, value in (("trace_id", trace_id), ("span_id", span_id), ("span_name", ROUTES[route])):
                sample.label.add(key=string(key), str=string(value))
        profile.string_table.extend(strings)
        request = push.PushRequest()
        series = request.series.add()
        for key, value in (("__name__", "process_cpu"), ("service_name", self.service)):
            series.labels.add(name=key, value=value)
        series.samples.add(raw_profile=gzip.compress(profile.SerializeToString()))
        self.now += seconds * 1000 * MS
        return request.SerializeToString(), traces.SerializeToString()


def an_hour(service: str, seed: int, start_ns: int, spans: int, samples: int) -> Iterator[tuple[bytes, bytes]]:
    """Yield the uploads of one worker, every ten seconds for an hour; `spans` in all, `samples` in each."""
    traffic = Traffic(service, seed, start_ns)
    requests = max(spans // 360 // 4, 1)
    for _ in range(360):
        yield traffic.seconds(10, requests, 3, samples)
