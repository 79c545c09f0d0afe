"""Starlette, where the work is done while the response is sent, and after that."""

import asyncio
import contextlib

from routes import chunks, chunks_async, work_async, work_outside_async
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route


async def alpha(_request):
    return StreamingResponse(chunks_async("alpha"))


async def beta(_request):
    return PlainTextResponse(await work_async("beta"))


async def gamma(_request):
    """Starlette takes each chunk of a synchronous generator from a worker thread."""
    return StreamingResponse(chunks("gamma"))


async def delta(_request):
    return PlainTextResponse("delta", background=BackgroundTask(work_async, "delta"))


@contextlib.asynccontextmanager
async def lifespan(_app):
    outside = asyncio.create_task(work_outside_async())
    yield
    outside.cancel()


app = Starlette(
    routes=[
        Route("/alpha/{number:int}", alpha),
        Route("/beta/{name}", beta),
        Route("/gamma/{number:int}", gamma),
        Route("/delta/{name}", delta),
    ],
    lifespan=lifespan,
)
