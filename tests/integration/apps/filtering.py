"""Sets filters for warnings as its argument says, before or after pyroscope-io was imported, and forks."""

import os
import sys
import threading
import warnings

from busy import busy_function, tracer

how = sys.argv[1]
if how == "error":
    warnings.simplefilter("error")
elif how == "thread":
    warnings.simplefilter("default")
    stop = threading.Event()
    threading.Thread(target=stop.wait).start()
else:
    warnings.simplefilter(how)
with tracer.start_as_current_span("work"):
    busy_function("busy_work")(0.3)
filters = list(warnings.filters)
if os.fork() == 0:
    os._exit(0 if warnings.filters == filters else 3)
_, status = os.wait()
assert warnings.filters == filters
if how == "thread":
    stop.set()
warnings.simplefilter("default")
warnings.warn("of the application", DeprecationWarning, stacklevel=1)
sys.exit(os.waitstatus_to_exitcode(status))
