"""Flask answers one short request after the other, of eight routes in turn, each on a thread of its own; leaves with code 3."""

import sys
import threading
import urllib.request

from flask import Flask
from turns import HANDLERS, SECONDS, busy_function
from werkzeug.serving import WSGIRequestHandler, make_server

TURN = 0.01
app = Flask(__name__)


def add_handler(number):
    busy = busy_function(f"busy_{number}")

    def work():
        busy(TURN)
        return "worked"

    app.add_url_rule(f"/turns-{number}", f"turns_{number}", work)


for number in range(HANDLERS):
    add_handler(number)


class Silent(WSGIRequestHandler):
    def log(self, *_):
        pass


server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=Silent)
threading.Thread(target=server.serve_forever, daemon=True).start()
answered = 0
for _ in range(int(SECONDS / HANDLERS / TURN)):
    for number in range(HANDLERS):
        with urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}/turns-{number}") as answer:
            answered += len(answer.read()) == len("worked")
print("answered", answered)
server.shutdown()
sys.exit(3)
