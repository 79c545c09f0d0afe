"""Stands for the reader's `app.py`: half a second of work in a span."""

import time

from opentelemetry import trace


def busy() -> None:
    end = time.thread_time() + 0.5
    while time.thread_time() < end:
        sum(range(1000))


with trace.get_tracer("app").start_as_current_span("GET /search"):
    busy()
    time.sleep(0.05)  # labels by thread: the last sample is recorded a little later than it is read
