"""The service that `soak.py` keeps busy: three routes that work in functions known by name, and some work outside spans."""

import asyncio
import time
from contextlib import asynccontextmanager

from fastapi import FastAPI
from opentelemetry import trace

tracer = trace.get_tracer("soak")


def busy_route(seconds):
    """Work in a span."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


def busy_outside(seconds):
    """Work outside every span: labels that were left behind would show here."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


async def beside():
    """Work outside spans all the time."""
    while True:
        busy_outside(0.002)
        await asyncio.sleep(0.1)


@asynccontextmanager
async def lifespan(_app):
    """Run `beside` as long as the service."""
    task = asyncio.create_task(beside())
    yield
    task.cancel()


app = FastAPI(lifespan=lifespan)


@app.get("/short")
async def short():
    """Answer soon."""
    with tracer.start_as_current_span("short"):
        busy_route(0.002)
    return {}


@app.get("/long")
async def long():
    """Take turns with other requests in the middle of the work."""
    with tracer.start_as_current_span("long"):
        busy_route(0.004)
        await asyncio.sleep(0.005)
        busy_route(0.004)
    return {}
