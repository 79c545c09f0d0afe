"""Work that can be told by its name on the stack, for the other applications of this folder."""

import time

from opentelemetry import trace


def busy_function(name):
    """Return a function called `name` that uses the calling thread's CPU for some seconds."""
    namespace = {"thread_time": time.thread_time}
    source = f"def {name}(seconds):\n    end = thread_time() + seconds\n    while thread_time() < end:\n        pass\n"
    exec(compile(source, __file__, "exec"), namespace)
    return namespace[name]


def identity(span):
    context = span.get_span_context()
    return {"span_id": f"{context.span_id:016x}", "trace_id": f"{context.trace_id:032x}"}


tracer = trace.get_tracer("application")
