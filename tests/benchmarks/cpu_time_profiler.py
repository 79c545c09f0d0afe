"""Profilers that the CPU benchmark compares: how each is started in a process, and the seconds that it shows by span."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from otel_profiling_distro.receiver import Receiver, Sample
from otel_profiling_distro.receiver.pprof import decode_profile

CONFIGURATIONS = ("otel-profiling-distro", "pyroscope-io", "ddtrace")
SERVICE = "cpu-time"
RATE = 100
"""Samples that stand for a second, of the first two."""


def start(configuration: str, target: str) -> Callable[[], object]:
    """Start a profiler in this process with its default settings, and return what ends it.

    Args:
        configuration: One of `CONFIGURATIONS`.
        target: A server's address; of ddtrace, how the names of its files are to begin.
    """
    if configuration == "ddtrace":
        os.environ.update(
            DD_PROFILING_OUTPUT_PPROF=target,  # files, instead of an upload to Datadog's agent
            DD_SERVICE=SERVICE,
            DD_TRACE_ENABLED="false",
            DD_INSTRUMENTATION_TELEMETRY_ENABLED="false",
            DD_REMOTE_CONFIGURATION_ENABLED="false",
        )
        from ddtrace.profiling import Profiler

        profiler = Profiler()
        profiler.start()
        return profiler.stop
    if configuration == "pyroscope-io":
        import pyroscope

        pyroscope.configure(application_name=SERVICE, server_address=target)
        return pyroscope.shutdown
    from opentelemetry import trace
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from otel_profiling_configurator import activate

    trace.set_tracer_provider(TracerProvider(resource=Resource({"service.name": SERVICE})))
    os.environ["OTEL_PROFILING_SERVER_ADDRESS"] = target
    return activate()


def pushed(receiver: Receiver, spans: Iterable[str], *, labelled: bool) -> tuple[dict[str, float], float]:
    """Return the seconds of each span's work that were pushed, and those of any span's work with another span's label, or none.

    Args:
        spans: Names of spans, and of the functions that do their work.
        labelled: Whether samples have labels of spans.
    """
    samples: list[Sample] = receiver.samples(SERVICE)
    seconds, strayed = dict.fromkeys(spans, 0.0), 0.0
    for sample in samples:
        for span in seconds.keys() & {frame.function for frame in sample.stack}:
            if labelled and sample.label("span_name") != span:
                strayed += sample.count / RATE
            else:
                seconds[span] += sample.count / RATE
    return seconds, strayed


def kept(folder: Path, spans: Iterable[str]) -> dict[str, float]:
    """Return the seconds of each span's work in the files that ddtrace has kept in a folder."""
    import zstandard

    seconds = dict.fromkeys(spans, 0.0)
    for path in folder.glob("*.pprof"):
        with path.open("rb") as file:
            data: Any = zstandard.ZstdDecompressor().stream_reader(file).read()
        for sample in decode_profile(data, {}).samples:
            if sample.type == "cpu-time":
                for span in seconds.keys() & {frame.function for frame in sample.stack}:
                    seconds[span] += sample.value / 1e9
    return seconds
