"""Quart, whose applications put OpenTelemetry's ASGI middleware in front of themselves: nothing instruments it by itself."""

import asyncio

from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
from quart import Quart
from routes import chunks_async, work, work_async, work_outside_async

app = Quart(__name__)
app.asgi_app = OpenTelemetryMiddleware(app.asgi_app)


@app.get("/alpha")
async def alpha():
    return await work_async("alpha")


@app.get("/beta")
async def beta():
    return await asyncio.create_task(work_async("beta"))


@app.post("/gamma")
def gamma():
    """Quart runs it on a worker thread."""
    return work("gamma")


@app.get("/delta")
async def delta():
    return chunks_async("delta")


@app.while_serving
async def outside():
    task = asyncio.create_task(work_outside_async())
    yield
    task.cancel()
