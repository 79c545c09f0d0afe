"""What `under_load.py` serves: one route in FastAPI and in Flask, about a millisecond of Python work for each request.

Other routes put the process from one configuration into another, once or turn by turn: what is compared then runs in the same
process, with the same threads, memory and connections.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import SpanProcessor
from otel_profiling_configurator import activate, deactivate
from otel_profiling_configurator.native import native

PLAIN, AGENT, PYROSCOPE_OTEL, OURS = "plain", "agent", "pyroscope-otel", "otel-profiling-distro"


class Configuration:
    """Nothing on top of what there is; and what the others are made of."""

    def __init__(self, upload_interval: int) -> None: ...

    def enter(self) -> None:
        """Begin."""

    def finish(self) -> None:
        """Begin nothing new: no span is labelled any more that starts from now on."""

    def leave(self) -> None:
        """End, once what was begun has ended."""


class PyroscopeOtel(Configuration):
    """Grafana's span processor."""

    def enter(self) -> None:
        from pyroscope.otel import PyroscopeSpanProcessor

        provider: Any = trace.get_tracer_provider()
        self.processors = provider._active_span_processor  # the SDK has no public way to take one away
        self.before = self.processors._span_processors
        self.processor = PyroscopeSpanProcessor()
        provider.add_span_processor(self.processor)

    def finish(self) -> None:
        self.processor.on_start = SpanProcessor().on_start  # type: ignore[method-assign] # does nothing; its `on_end` goes on

    def leave(self) -> None:
        self.processors._span_processors = self.before


class Ours(Configuration):
    """What the configurator of `otel-profiling-distro` activates, with the agent as it starts it."""

    def __init__(self, upload_interval: int) -> None:
        os.environ["OTEL_PROFILING_UPLOAD_INTERVAL"] = f"{upload_interval}s"

    def enter(self) -> None:
        os.environ["OTEL_PROFILING_ENABLED"] = "true"
        deactivate()  # what was activated when this was "false": nothing
        activate()
        if native is None or native.mode() != "aliases":
            raise RuntimeError("our agent did not start")
        self.provider: Any = trace.get_tracer_provider()
        for scope in tuple(self.provider._tracers):  # those that were made before us, where there usually are none
            self.provider.get_tracer(scope.name, scope.version, scope.schema_url, scope.attributes)

    def finish(self) -> None:
        self.provider._self_release_tracers()

    def leave(self) -> None:
        deactivate()


def start_agent(upload_interval: int) -> Callable[[], None]:
    """Start the profiler, as an application does that uses it alone; return what stops it."""
    import pyroscope

    if not pyroscope.configure(
        application_name=os.environ["OTEL_SERVICE_NAME"],
        server_address=os.environ["OTEL_PROFILING_SERVER_ADDRESS"],
        upload_interval=upload_interval,
    ):
        raise RuntimeError("the agent did not start")
    return pyroscope.shutdown  # type: ignore[no-any-return] # untyped


CONFIGURATIONS: dict[str, type[Configuration]] = {
    PLAIN: Configuration,
    AGENT: Configuration,
    PYROSCOPE_OTEL: PyroscopeOtel,
    OURS: Ours,
}
"""Name to what it is."""

WITH_AGENT = (AGENT, PYROSCOPE_OTEL)
"""Those for which the agent is started with its defaults; ours starts it itself."""

UPLOAD_SECONDS, UPLOAD_SECONDS_OF_TURNS = 10, 3
"""Between two uploads: the default; and for turns, of which each configuration takes some seconds' worth at a time."""

SETTLING = 16
"""Requests before and after a switch: so that those that were begun before it have ended."""

_present = Configuration(0)
_entered = ("", 0)
"""The present configuration, and between how many seconds it sends profiles."""
_stop_agent: Callable[[], None] | None = None
_served = 0
_turns: Iterator[int] = iter(())
_next_step = 0
_taken: list[tuple[str, int, float, float]] = []
_stepping = threading.Lock()


def enter(configuration: str, upload_interval: int = UPLOAD_SECONDS) -> None:
    """Put this process into another configuration.

    Raises:
        RuntimeError: spans are not told of their profiles as they should be there.
    """
    global _present, _entered, _stop_agent  # noqa: PLW0603 - what is switched is the process
    _present.leave()
    if _stop_agent is not None:
        _stop_agent()
    _stop_agent = start_agent(upload_interval) if configuration in WITH_AGENT else None
    _present, _entered = CONFIGURATIONS[configuration](upload_interval), (configuration, upload_interval)
    _present.enter()
    with trace.get_tracer("under-load").start_as_current_span("entered", Context()) as span:
        attributes: Any = getattr(span, "attributes", {})
        if ("pyroscope.profile.id" in attributes) != (configuration in (PYROSCOPE_OTEL, OURS)):
            raise RuntimeError(f"this process did not become {configuration}")


def turns(configurations: Sequence[str], requests: int) -> Iterator[int]:
    """Put this process into one configuration after the other, each for so many requests; yield when to go on, in requests."""
    for configuration in configurations:
        if (configuration, UPLOAD_SECONDS_OF_TURNS) != _entered:
            _present.finish()
            yield SETTLING
            enter(configuration, UPLOAD_SECONDS_OF_TURNS)
            yield SETTLING
        before = _served, time.process_time(), time.monotonic()
        yield requests
        _taken.append((configuration, _served - before[0], time.process_time() - before[1], time.monotonic() - before[2]))


def take(configurations: Sequence[str], requests: int) -> None:
    """Begin to take turns."""
    global _turns, _next_step  # noqa: PLW0603 - what takes turns is the process
    _taken.clear()
    _turns = turns(configurations, requests)
    _next_step = _served


def taken() -> list[tuple[str, int, float, float]]:
    """Return the turns that were taken: the configuration, how many requests were served, CPU time and time, in seconds."""
    return _taken


def answer(number: int, total: int) -> dict[str, int]:
    """Return the answer to a request, and count it."""
    global _served, _next_step  # noqa: PLW0603 - a count of all threads; that two of them at once count one is rare and the same for all
    _served += 1
    if _served >= _next_step and _stepping.acquire(False):
        try:
            _next_step = _served + next(_turns, 1_000_000)
        finally:
            _stepping.release()
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
    async def switch(configuration: str) -> None:
        enter(configuration)

    @app.get("/take/{requests}/{configurations}")
    async def begin(requests: int, configurations: str) -> None:
        take(configurations.split(","), requests)

    @app.get("/taken")
    async def ended() -> list[tuple[str, int, float, float]]:
        return taken()

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
    def switch(configuration: str) -> list[None]:
        return [enter(configuration)]

    @app.get("/take/<int:requests>/<configurations>")
    def begin(requests: int, configurations: str) -> list[None]:
        return [take(configurations.split(","), requests)]

    @app.get("/taken")
    def ended() -> list[tuple[str, int, float, float]]:
        return taken()

    return app
