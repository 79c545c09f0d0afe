"""SQLAlchemy's asyncio: ordinary code in a greenlet for each call, which is left and entered with each statement."""

import asyncio
import contextlib

from routes import BUSY, STEPS, work_async, work_outside_async
from sqlalchemy import event, text
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.pool import StaticPool
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

engine = create_async_engine("sqlite+aiosqlite://", poolclass=StaticPool)
QUERY = text("SELECT 1 UNION SELECT 2")


@event.listens_for(engine.sync_engine, "before_cursor_execute")
def before(_connection, _cursor, _statement, _parameters, context, _many):
    """Work that a listener does, in the greenlet."""
    if length := context.execution_options.get("work"):
        BUSY["gamma"](length)


def in_greenlet(connection):
    for length in STEPS:
        BUSY["beta"](length)
        connection.execute(QUERY)


async def alpha(_request):
    async with engine.connect() as connection:
        for length in STEPS:
            BUSY["alpha"](length)
            await connection.execute(QUERY)
    return PlainTextResponse("alpha")


async def beta(_request):
    async with engine.connect() as connection:
        await connection.run_sync(in_greenlet)
    return PlainTextResponse("beta")


async def gamma(_request):
    async with AsyncSession(engine) as session:
        for length in STEPS:
            await session.execute(QUERY, execution_options={"work": length})
    return PlainTextResponse("gamma")


async def delta(_request):
    async with AsyncSession(engine) as session:
        answer, _ = await asyncio.gather(work_async("delta"), session.execute(QUERY))
    return PlainTextResponse(answer)


@contextlib.asynccontextmanager
async def lifespan(_app):
    outside = asyncio.create_task(work_outside_async())
    yield
    outside.cancel()
    await engine.dispose()


app = Starlette(
    routes=[
        Route("/alpha", alpha),
        Route("/beta", beta),
        Route("/gamma", gamma),
        Route("/delta", delta),
    ],
    lifespan=lifespan,
)
