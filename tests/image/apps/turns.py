"""Work of eight handlers that can be told by its name on the stack, for the other applications of this folder."""

import time

HANDLERS = 8
SECONDS = 4.0
"""Of work, all handlers together."""


def busy_function(name):
    """Return a function called `name` that works for some seconds."""
    namespace = {"thread_time": time.thread_time}
    source = f"def {name}(seconds):\n    end = thread_time() + seconds\n    while thread_time() < end:\n        pass\n"
    exec(compile(source, __file__, "exec"), namespace)
    return namespace[name]
