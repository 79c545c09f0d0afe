"""FastAPI answers eight requests at the same time, which take turns of 0.2 ms on one thread; leaves with code 3."""

import asyncio
import sys
import threading
import time
import urllib.request

import uvicorn
from fastapi import FastAPI
from turns import HANDLERS, SECONDS, busy_function

TURN = 0.0002
app = FastAPI()


def add_handler(number):
    busy = busy_function(f"busy_{number}")

    @app.get(f"/turns-{number}")
    async def work():
        for _ in range(int(SECONDS / HANDLERS / TURN)):
            busy(TURN)
            await asyncio.sleep(0)
        return "worked"


for number in range(HANDLERS):
    add_handler(number)
server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="error", loop="asyncio"))
thread = threading.Thread(target=server.run)
thread.start()
while not server.started:
    time.sleep(0.01)
port = server.servers[0].sockets[0].getsockname()[1]


def ask(number):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/turns-{number}") as answer:
        answer.read()


clients = [threading.Thread(target=ask, args=(number,)) for number in range(HANDLERS)]
for client in clients:
    client.start()
for client in clients:
    client.join()
print("answered", len(clients))
server.should_exit = True
thread.join()
sys.exit(3)
