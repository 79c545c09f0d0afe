"""Serves requests with FastAPI on asyncio, asks itself for one page, prints the answer and leaves with code 3."""

import sys
import threading
import time
import urllib.request

import uvicorn
from fastapi import FastAPI

app = FastAPI()


def busy_fastapi(seconds):
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        sum(range(1000))


@app.get("/items/{item}")
async def work(item: int):
    busy_fastapi(0.7)
    return f"worked on {item}"


server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="error", loop="asyncio"))
thread = threading.Thread(target=server.run)
thread.start()
while not server.started:
    time.sleep(0.01)
port = server.servers[0].sockets[0].getsockname()[1]
with urllib.request.urlopen(f"http://127.0.0.1:{port}/items/7") as answer:
    print(answer.read().decode())
server.should_exit = True
thread.join()
sys.exit(3)
