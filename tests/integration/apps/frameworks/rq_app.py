"""Jobs of an RQ worker, which forks a process for each of them that leaves with ``os._exit``."""

import os

from opentelemetry import trace
from opentelemetry.trace import SpanKind
from routes import BUSY, work
from traced import traced

TIMES = int(os.environ.get("WORK_TIMES", "1"))
"""How often a job does its work."""


def job(route):
    @traced(f"run/{route}", kind=SpanKind.CONSUMER)
    def run():
        return [work(route) for _ in range(TIMES)][-1]

    def run_and_send():
        answer = run()
        # Nothing else sends spans before `os._exit`; RQ's instrumentation does the same.
        trace.get_tracer_provider().force_flush()
        return answer

    return run_and_send


alpha, beta, gamma, delta = (job(route) for route in BUSY)
