"""Starts Pyroscope itself, as an application might that nobody told about us."""

import json
import os

import pyroscope
from busy import busy_function, identity, tracer

configured = pyroscope.configure(application_name="own-name", server_address=os.environ["OTEL_PROFILING_SERVER_ADDRESS"])
with tracer.start_as_current_span("own") as span:
    busy_function("busy_own")(0.7)
print(json.dumps({"configured": configured, "ids": identity(span)}))
