"""Work of eight handlers that can be told by its name on the stack, for the other applications of this folder."""

import time

HANDLERS = 8
SECONDS = 4.0
"""Of work, all handlers together."""


def busy_function(name):
    """Return a function called `name` that works for some seconds."""
    namespace = {"perf_counter": time.perf_counter}
    source = f"def {name}(seconds):\n    end = perf_counter() + seconds\n    while perf_counter() < end:\n        pass\n"
    exec(compile(source, __file__, "exec"), namespace)
    return namespace[name]
