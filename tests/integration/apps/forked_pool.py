"""Forks the workers of a process pool in the middle of a request, and has them work for another one, too."""

import json
import multiprocessing
import sys
from concurrent.futures import ProcessPoolExecutor

from busy import busy_function, tracer
from opentelemetry import trace

forking = multiprocessing.get_context("fork")
busy_first, busy_second, busy_process = (busy_function(f"busy_{name}") for name in ("first", "second", "process"))


def first():
    """What a job runs is found by its name."""
    busy_first(0.7)


def second():
    with tracer.start_as_current_span("job"):
        busy_second(0.7)
    trace.get_tracer_provider().force_flush()  # a child of multiprocessing ends without it


if sys.argv[1] == "executor":
    with ProcessPoolExecutor(1, mp_context=forking) as pool:
        with tracer.start_as_current_span("GET /first"):
            pool.submit(first).result()
        with tracer.start_as_current_span("GET /second"):
            pool.submit(second).result()
else:
    with tracer.start_as_current_span("GET /first"):
        pool = forking.Pool(1)
        pool.apply(first)
    with tracer.start_as_current_span("GET /second"):
        pool.apply(second)
    pool.close()
    pool.join()
with tracer.start_as_current_span("GET /process"):
    process = forking.Process(target=busy_process, args=(0.7,))
    process.start()
    process.join()
print(json.dumps({"exit code": process.exitcode}))
