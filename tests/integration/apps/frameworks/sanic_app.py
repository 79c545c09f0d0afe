"""A Sanic server, with coroutines, a function that its event loop waits for, and a stream."""

import asyncio
import sys

from routes import chunks_async, work, work_async, work_outside_async
from sanic import Sanic, response

app = Sanic("shop")


@app.get("/alpha/<number:int>")
async def alpha(_request, number):
    return response.text(await work_async("alpha") * number)


@app.get("/beta/<name:str>")
async def beta(_request, name):
    return response.text(await asyncio.create_task(work_async("beta")) + name)


@app.post("/gamma")
def gamma(_request):
    return response.text(work("gamma"))


@app.get("/delta")
async def delta(_request):
    return response.text("".join([chunk async for chunk in chunks_async("delta")]))


app.add_task(work_outside_async())

if __name__ == "__main__":
    app.run("127.0.0.1", int(sys.argv[1]), single_process=True, access_log=False, motd=False)
