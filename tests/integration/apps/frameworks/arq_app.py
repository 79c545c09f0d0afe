"""An arq worker: coroutines on one event loop, several at a time."""

import asyncio
import os

from arq.connections import RedisSettings
from arq.worker import func
from opentelemetry.trace import SpanKind
from routes import BUSY, work_async, work_outside_async
from traced import traced


def job(route):
    @traced(f"run/{route}", kind=SpanKind.CONSUMER)
    async def run(_worker):
        return await work_async(route)

    return func(run, name=route)


async def start(worker):
    worker["outside"] = asyncio.create_task(work_outside_async())


async def stop(worker):
    worker["outside"].cancel()


class WorkerSettings:
    """What arq reads."""

    functions = [job(route) for route in BUSY]  # noqa: RUF012 - arq asks for a list
    redis_settings = RedisSettings(port=int(os.environ["REDIS_PORT"]))
    on_startup = start
    on_shutdown = stop
    poll_delay = 0.02
