"""Adds a label to its thread by itself, as an application does that knows Pyroscope and nothing of us."""

import json
import threading

import pyroscope
from busy import busy_function, identity, tracer

told = {}


def work(name):
    with tracer.start_as_current_span(name) as span:
        told[name] = identity(span)
        busy_function(f"busy_{name}")(0.7)


work("before")
with pyroscope.tag_wrapper({"job": "nightly"}):
    work("inside")
    busy_function("busy_job")(0.7)
work("after")
thread = threading.Thread(target=work, args=("thread",))
thread.start()
thread.join()
print(json.dumps(told))
