"""A forked child starts spans while its parent's is current."""

import multiprocessing

from busy import busy_function, tracer
from opentelemetry import trace

busy_job, busy_step = busy_function("busy_job"), busy_function("busy_step")


def work():
    with tracer.start_as_current_span("job"):
        busy_job(0.7)
        with tracer.start_as_current_span("step"):
            busy_step(0.7)
    trace.get_tracer_provider().force_flush()  # a child of multiprocessing ends without it


with tracer.start_as_current_span("master"):
    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    process.join()
raise SystemExit(process.exitcode)
