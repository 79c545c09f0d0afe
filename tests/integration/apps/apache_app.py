"""What Apache's mod_wsgi serves: it starts telemetry as `opentelemetry-instrument` does, and works for each request."""

import json
import os
import threading

from opentelemetry import trace
from opentelemetry.instrumentation.auto_instrumentation import initialize

initialize()

from busy import busy_function, identity  # noqa: E402 - makes a tracer
from otel_profiling_configurator.interpreters import is_main_interpreter  # noqa: E402 - as above

tracer = trace.get_tracer("apache")
busy = busy_function("busy_request")


def application(_environ, start_response):
    with tracer.start_as_current_span("GET /") as span:
        busy(0.3)
    told = {"pid": os.getpid(), "main": is_main_interpreter(), "threads": threading.active_count(), **identity(span)}
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(told).encode()]
