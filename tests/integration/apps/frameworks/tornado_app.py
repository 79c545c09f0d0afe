"""A Tornado server, with native coroutines, a generator-based one, and a stream."""

import asyncio
import signal
import sys

from routes import BUSY, STEPS, chunks_async, work_async, work_outside_async
from tornado import gen, web


class Alpha(web.RequestHandler):
    async def get(self, number):
        self.write(await work_async("alpha") * int(number))


class Beta(web.RequestHandler):
    @gen.coroutine
    def get(self):
        for length in STEPS:
            BUSY["beta"](length)
            yield gen.sleep(0)
        self.write("beta")


class Gamma(web.RequestHandler):
    async def post(self):
        self.write(await asyncio.create_task(work_async("gamma")))


class Delta(web.RequestHandler):
    async def get(self):
        async for chunk in chunks_async("delta"):
            self.write(chunk)
            await self.flush()


async def main():
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGINT, stop.set)
    app = web.Application([(r"/alpha/(\d+)", Alpha), (r"/beta", Beta), (r"/gamma", Gamma), (r"/delta", Delta)])
    server = app.listen(int(sys.argv[1]), "127.0.0.1")
    outside = asyncio.create_task(work_outside_async())
    await stop.wait()
    outside.cancel()
    server.stop()
    await server.close_all_connections()


asyncio.run(main())
