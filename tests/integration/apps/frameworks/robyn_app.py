"""A Robyn server: it is in Rust, and has its coroutines run by asyncio and its functions by threads of its own."""

import asyncio
import sys

from robyn import Robyn
from routes import work, work_async, work_outside
from traced import traced

app = Robyn(__file__)


@app.get("/alpha/:number")
@traced("GET /alpha/:number")
async def alpha(number):
    return await work_async("alpha") * int(number)


@app.get("/beta")
@traced("GET /beta")
async def beta():
    return await asyncio.create_task(work_async("beta"))


@app.post("/gamma")
@traced("POST /gamma")
def gamma():
    return work("gamma")


@app.get("/delta")
@traced("GET /delta")
def delta():
    return work("delta")


if __name__ == "__main__":
    app.startup_handler(work_outside)
    app.start(host="127.0.0.1", port=int(sys.argv[1]))
