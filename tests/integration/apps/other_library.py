"""Starts an agent whose samples are taken by another copy of its library than the one that is looked at."""

import ctypes
import os
import shutil
import sys
from pathlib import Path

import pyroscope
from busy import busy_function, tracer

copy = str(Path(sys.argv[1]) / "copy.so")
shutil.copy(pyroscope.lib.__file__, copy)
ctypes.CDLL(copy)
pyroscope.lib.__file__ = copy
pyroscope.configure(application_name="own-name", server_address=os.environ["OTEL_PROFILING_SERVER_ADDRESS"])
with tracer.start_as_current_span("unnoticed"):
    busy_function("busy_unnoticed")(4)
with tracer.start_as_current_span("noticed"):
    busy_function("busy_noticed")(1)
