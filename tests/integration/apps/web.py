"""A web application for any server: does labelled work for each request, and answers who did it in which span."""

import itertools
import json
import os

from busy import busy_function, identity, tracer

numbers = itertools.count()
functions = []  # kept: the agent knows a function by its address, which would be used again


def work():
    """Work in a function whose name says which process and which request it belongs to."""
    function = f"busy_{os.getpid()}_{next(numbers)}"
    busy = busy_function(function)
    functions.append(busy)
    with tracer.start_as_current_span(f"GET {function}") as span:
        busy(0.12)
    return json.dumps({"pid": os.getpid(), "function": function, **identity(span)}).encode()


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
