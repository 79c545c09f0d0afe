"""A server that a click command starts: upstream's instrumentation makes a span of the whole command."""

import json
import threading
import urllib.request

import click
from busy import busy_function
from flask import Flask
from opentelemetry import trace
from opentelemetry.propagate import inject
from werkzeug.serving import make_server

busy_a, busy_b, busy_job = (busy_function(f"busy_{name}") for name in ("a", "b", "job"))
app = Flask(__name__)


@app.get("/a")
def a():
    busy_a(0.02)
    return "a"


@app.get("/b")
def b():
    busy_b(0.02)
    return "b"


@click.command()
def serve():
    with trace.get_tracer("application").start_as_current_span("job"):
        busy_job(0.7)
    server = make_server("127.0.0.1", 0, app)

    def ask():
        for path in ["/a", "/b"] * 40:
            urllib.request.urlopen(f"http://127.0.0.1:{server.port}{path}").read()
        server.shutdown()

    client = threading.Thread(target=ask)
    client.start()
    server.serve_forever()
    client.join()
    headers = {}
    inject(headers)
    print(json.dumps(headers))


serve(standalone_mode=False)
