"""An aiohttp server."""

import asyncio
import sys

from aiohttp import web
from routes import chunks_async, work_async, work_outside_async


async def alpha(request):
    return web.Response(text=await work_async("alpha") + request.match_info["number"])


async def beta(_request):
    return web.Response(text=await work_async("beta"))


async def gamma(_request):
    return web.Response(text=await asyncio.create_task(work_async("gamma")))


async def delta(request):
    response = web.StreamResponse()
    await response.prepare(request)
    async for chunk in chunks_async("delta"):
        await response.write(chunk.encode())
    return response


async def outside(_app):
    task = asyncio.create_task(work_outside_async())
    yield
    task.cancel()


app = web.Application()
app.add_routes(
    [
        web.get("/alpha/{number}", alpha),
        web.get("/beta/{name}", beta),
        web.get("/gamma", gamma),
        web.get("/delta", delta),
    ]
)
app.cleanup_ctx.append(outside)
web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), print=None)
