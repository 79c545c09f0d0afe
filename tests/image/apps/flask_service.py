"""Serves requests with Flask on real threads, asks itself for one page, prints the answer and leaves with code 3."""

import sys
import threading
import time
import urllib.request

from flask import Flask
from werkzeug.serving import WSGIRequestHandler, make_server

app = Flask(__name__)


def busy_flask(seconds):
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        sum(range(1000))


@app.get("/items/<item>")
def work(item):
    busy_flask(0.7)
    return f"worked on {item}"


class Silent(WSGIRequestHandler):
    def log(self, *_):
        pass


server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=Silent)
threading.Thread(target=server.serve_forever, daemon=True).start()
with urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}/items/7") as answer:
    print(answer.read().decode())
server.shutdown()
sys.exit(3)
