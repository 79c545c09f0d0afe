"""What `under_load.py` serves: one route in FastAPI and in Flask, about a millisecond of Python work for each request.

`UNDER_LOAD_AGENT` says what the application starts by itself, as applications that use these packages do: nothing, the
profiler (``agent``) or the profiler and Grafana's span processor (``pyroscope-otel``).
"""

from __future__ import annotations

import asyncio
import os
from typing import Any

from opentelemetry import trace


def start_agent() -> None:
    """Start what was asked for. In the process that serves: an agent does not survive a fork."""
    wanted = os.environ.get("UNDER_LOAD_AGENT", "")
    if wanted:
        import pyroscope

        pyroscope.configure(
            application_name="under-load",
            server_address=os.environ["UNDER_LOAD_SERVER"],
            upload_interval=int(os.environ["UNDER_LOAD_UPLOAD_SECONDS"]),
        )
    if wanted == "pyroscope-otel":
        from pyroscope.otel import PyroscopeSpanProcessor

        trace.get_tracer_provider().add_span_processor(PyroscopeSpanProcessor())


def work() -> int:
    """Use about half a millisecond of CPU time."""
    total = 0
    for number in range(8000):
        total += number * number % 7
    return total


def fastapi_app() -> Any:
    from fastapi import FastAPI

    start_agent()
    app = FastAPI()
    tracer = trace.get_tracer("under-load")

    @app.get("/items/{number}")
    async def item(number: int) -> dict[str, int]:
        with tracer.start_as_current_span("load"):
            total = work()
            await asyncio.sleep(0)
        return {"number": number, "total": total + work()}

    return app


def flask_app() -> Any:
    from flask import Flask

    start_agent()
    app = Flask(__name__)
    tracer = trace.get_tracer("under-load")

    @app.get("/items/<int:number>")
    def item(number: int) -> dict[str, int]:
        with tracer.start_as_current_span("load"):
            total = work()
        return {"number": number, "total": total + work()}

    return app
