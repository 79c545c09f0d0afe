"""FastAPI with coroutines and with functions, which it runs on worker threads."""

import asyncio
import contextlib

from fastapi import FastAPI
from routes import work, work_async, work_outside_async


@contextlib.asynccontextmanager
async def lifespan(_app):
    outside = asyncio.create_task(work_outside_async())
    yield
    outside.cancel()


app = FastAPI(lifespan=lifespan)


@app.get("/alpha/{number}")
async def alpha(number: int):
    return await work_async("alpha") * number


@app.get("/beta/{name}")
async def beta(name: str):
    return await work_async("beta") + name


@app.get("/gamma/{number}")
def gamma(number: int):
    return work("gamma") * number


@app.get("/delta/{name}")
def delta(name: str):
    return work("delta") + name
