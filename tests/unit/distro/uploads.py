"""Makes small profiles and spans, as they are once they have been decoded."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

from otel_profiling_distro.receiver import Frame, Sample
from otel_profiling_distro.receiver.model import Profile
from otel_profiling_distro.receiver.otlp import EncodedSpans, Source, SpanRecord

UNHURRIED = settings(derandomize=True, database=None, deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""A busy machine decides no test."""

MS = 1_000_000
SECOND = 1_000 * MS
FILE = "/srv/app/shop.py"


def sample(stack: str, ms: int = 10, service: str = "shop", **labels: str) -> Sample:
    """A sample whose stack is written as function names, leaf first; ``clock`` is a label of the series."""
    series = {"service_name": service, **({"clock": labels.pop("clock")} if "clock" in labels else {})}
    frames = tuple(Frame(function, FILE, 7) for function in stack.split())
    return Sample(series, tuple(labels.items()), frames, ms * MS, "nanoseconds", "cpu", max(ms // 10, 1))


def profile(*samples: Sample, start_ns: int = 0, duration_ns: int = 0) -> Profile:
    """A profile of samples of one series."""
    (series,) = {tuple(one.series.items()) for one in samples}
    return Profile(start_ns, duration_ns, dict(series), list(samples))


def profiles(*samples: Sample) -> list[Profile]:
    """A profile for each sample."""
    return [profile(one) for one in samples]


def spans(*records: SpanRecord, service: str = "shop") -> list[EncodedSpans]:
    return [EncodedSpans(Source(b"", b"", service), list(records))]


def span(
    trace_id: str, span_id: str, name: str, parent: str = "", *, at: int = 0, ms: int = 100, owner: bool = True
) -> SpanRecord:
    return SpanRecord(
        trace_id, span_id, parent, name, 2, at * MS, (at + ms) * MS, span_id if owner else None, False, 0, encoded=b""
    )
