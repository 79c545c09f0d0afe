"""A grpc.aio server whose messages are plain bytes, so that it needs no generated code."""

import asyncio
import signal
import sys

import grpc.aio
from routes import chunks_async, work_async, work_outside_async


def unary(route):
    async def handle(_request, _context):
        return (await work_async(route)).encode()

    return grpc.unary_unary_rpc_method_handler(handle)


async def delta(_request, _context):
    async for chunk in chunks_async("delta"):
        yield chunk.encode()


async def main():
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGINT, stop.set)
    server = grpc.aio.server()
    handlers = {route.capitalize(): unary(route) for route in ("alpha", "beta", "gamma")}
    handlers["Delta"] = grpc.unary_stream_rpc_method_handler(delta)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("shop.Shop", handlers),))
    server.add_insecure_port(f"127.0.0.1:{sys.argv[1]}")
    await server.start()
    outside = asyncio.create_task(work_outside_async())
    await stop.wait()
    outside.cancel()
    await server.stop(2)


asyncio.run(main())
