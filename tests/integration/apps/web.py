"""A web application for any server: does labelled work for each request, and answers who did it in which span."""

import itertools
import json
import os

from busy import busy_function, identity, tracer

numbers = itertools.count()
# All made before the first request, and kept: the agent remembers names by the addresses of functions.
functions = [busy_function(f"busy_{number}") for number in range(200)]


def work():
    """Work in a function whose name says which of the process's requests it belongs to."""
    busy = functions[next(numbers)]
    with tracer.start_as_current_span(f"GET {busy.__name__}") as span:
        busy(0.12)
    return json.dumps({"pid": os.getpid(), "function": busy.__name__, **identity(span)}).encode()


def application(_environ, start_response):
    start_response("200 OK", [("content-type", "application/json")])
    return [work()]


async def asgi(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": f"{message['type']}.complete"})
            if message["type"] == "lifespan.shutdown":
                return
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": work()})
