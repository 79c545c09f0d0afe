"""A web application with four routes, whose requests take more or less CPU time; each span says how much it was."""

import itertools
import time

from busy import busy_function, tracer
from opentelemetry.trace import SpanKind

ROUTES = {f"/{name}": busy_function(f"busy_{name}") for name in "abcd"}
# Seven amounts and four routes: each route has them all.
seconds = itertools.cycle([0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.08])


def application(environ, start_response):
    path = environ["PATH_INFO"]
    with tracer.start_as_current_span(f"GET {path}", kind=SpanKind.SERVER) as span:
        before = time.thread_time()
        ROUTES[path](next(seconds))
        span.set_attribute("cpu_seconds", time.thread_time() - before)
    start_response("200 OK", [("content-type", "text/plain")])
    return [b"done"]
