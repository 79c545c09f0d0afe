"""Starts Pyroscope itself, and has it report the id and the name of each sample's thread."""

import json
import os
import threading

import pyroscope
from busy import busy_function, tracer

pyroscope.configure(
    application_name="own-name",
    server_address=os.environ["OTEL_PROFILING_SERVER_ADDRESS"],
    report_thread_id=True,
    report_thread_name=True,
)


def work():
    with tracer.start_as_current_span("reported"):
        busy_function("busy_reported")(1)


thread = threading.Thread(target=work, name="a thread with a name")
thread.start()
ident = thread.ident
thread.join()
print(json.dumps({"ident": ident}))
