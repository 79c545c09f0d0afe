"""What `under_load.py` serves: one route in FastAPI and in Flask, about a millisecond of Python work for each request.

Another route puts the process from one configuration into another, each by its own public functions: what is compared then runs
in the same process, with the same threads, memory and connections. A third one tells how much was served.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from typing import Any

from opentelemetry import trace
from otel_profiling_configurator import activate, deactivate
from otel_profiling_configurator.thread_labels import enter_loop

PLAIN, AGENT, PYROSCOPE_OTEL, OURS = "plain", "agent", "pyroscope-otel", "otel-profiling-distro"


def plain() -> Callable[[], None]:
    """Nothing but OpenTelemetry, as `opentelemetry-distro` has configured it."""
    return lambda: None


def agent(name: str = AGENT) -> Callable[[], None]:
    """Start the profiler, as an application does that uses it alone; return what stops it."""
    import pyroscope

    pyroscope.configure(
        application_name=name,
        server_address=os.environ["OTEL_PROFILING_SERVER_ADDRESS"],
        upload_interval=int(os.environ["UNDER_LOAD_UPLOAD_SECONDS"]),
    )
    return pyroscope.shutdown  # type: ignore[no-any-return] # untyped


def pyroscope_otel() -> Callable[[], None]:
    """Start the profiler and Grafana's span processor; return what takes both away."""
    from pyroscope.otel import PyroscopeSpanProcessor

    stop = agent(PYROSCOPE_OTEL)
    provider: Any = trace.get_tracer_provider()
    processors = provider._active_span_processor  # the SDK has no public way to take one away
    before = processors._span_processors
    provider.add_span_processor(PyroscopeSpanProcessor())

    def undo() -> None:
        processors._span_processors = before
        stop()

    return undo


def ours() -> Callable[[], None]:
    """Activate what the configurator of `otel-profiling-distro` does; return what undoes it."""
    os.environ["OTEL_PROFILING_ENABLED"] = "true"
    deactivate()  # what was activated when this was "false": nothing
    activate()
    provider: Any = trace.get_tracer_provider()
    for scope in tuple(provider._tracers):  # those that were made before us, where there usually are none
        provider.get_tracer(scope.name, scope.version, scope.schema_url, scope.attributes)
    if asyncio._get_running_loop() is not None:
        enter_loop()  # as every loop does that is started after us
    return deactivate


CONFIGURATIONS = {PLAIN: plain, AGENT: agent, PYROSCOPE_OTEL: pyroscope_otel, OURS: ours}
"""Name to what makes it."""

_leave = plain()


def enter(configuration: str) -> str:
    """Put this process into another configuration, and return its name."""
    global _leave  # noqa: PLW0603 - what is switched is the process
    _leave()
    _leave = CONFIGURATIONS[configuration]()
    return configuration


_served = 0


def count() -> tuple[int, float, float]:
    """Return how many requests were served, and the CPU time and the time at which that was so, in seconds."""
    return _served, time.process_time(), time.monotonic()


def answer(number: int, total: int) -> dict[str, int]:
    """Return the answer to a request, and count it."""
    global _served  # noqa: PLW0603 - a count of all threads; that two of them at once count one is rare and the same for all
    _served += 1
    return {"number": number, "total": total}


def work() -> int:
    """Use about half a millisecond of CPU time."""
    total = 0
    for number in range(8000):
        total += number * number % 7
    return total


def fastapi_app() -> Any:
    from fastapi import FastAPI

    app = FastAPI()
    tracer = trace.get_tracer("under-load")

    @app.get("/items/{number}")
    async def item(number: int) -> dict[str, int]:
        with tracer.start_as_current_span("load"):
            total = work()
            await asyncio.sleep(0)
        return answer(number, total + work())

    @app.get("/enter/{configuration}")
    async def switch(configuration: str) -> list[str]:
        return [enter(configuration)]

    @app.get("/count")
    async def counted() -> tuple[int, float, float]:
        return count()

    return app


def flask_app() -> Any:
    from flask import Flask

    app = Flask(__name__)
    tracer = trace.get_tracer("under-load")

    @app.get("/items/<int:number>")
    def item(number: int) -> dict[str, int]:
        with tracer.start_as_current_span("load"):
            total = work()
        return answer(number, total + work())

    @app.get("/enter/<configuration>")
    def switch(configuration: str) -> list[str]:
        return [enter(configuration)]

    @app.get("/count")
    def counted() -> list[float]:
        return list(count())

    return app
