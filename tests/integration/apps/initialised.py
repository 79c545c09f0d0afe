"""Sets auto-instrumentation up from code."""

import json

from opentelemetry.instrumentation.auto_instrumentation import initialize

initialize()

from busy import busy_function, identity, tracer  # noqa: E402 - after initialize(), as such an application would
from installed import what_is_installed  # noqa: E402 - as above

with tracer.start_as_current_span("initialised") as span:
    busy_function("busy_initialised")(0.7)
print(json.dumps({**identity(span), **what_is_installed()}))
