"""Works in a span until samples have been taken, and prints which form of the configurator runs, and where it comes from."""

import json
import time

import otel_profiling_configurator
from opentelemetry import trace
from otel_profiling_configurator.native import native, why_missing

with trace.get_tracer(__name__).start_as_current_span("work"):
    until = time.thread_time() + 1
    while time.thread_time() < until:
        pass
told = {"mode": native and native.mode(), "why_missing": why_missing, "file": otel_profiling_configurator.__file__}
print(json.dumps(told))
