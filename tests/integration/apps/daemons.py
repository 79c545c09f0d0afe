"""Becomes a daemon in the way that its first argument names, opens files, works, and says whether anybody else wrote to them.

The daemon answers through a pipe that it opens by name, as its descriptors are closed. With `late`, it closes them all a second
time, after it has worked for a while; with `itself`, the process closes its own descriptors without forking; with `shared`, the
agent's descriptors are beside the application's, as on an older Linux.
"""

import contextlib
import json
import os
import resource
import sys
import tempfile
from pathlib import Path

from busy import busy_function, identity, tracer
from otel_profiling_configurator import activate, deactivate
from otel_profiling_configurator.agent import descriptors

MOST = min(resource.getrlimit(resource.RLIMIT_NOFILE)[0], 4096)
FILES = 24


def by_range():
    os.closerange(3, MOST)


def by_hand():
    for number in range(3, MOST):
        with contextlib.suppress(OSError):
            os.close(number)


def by_python_daemon():
    from daemon import DaemonContext  # noqa: PLC0415 - only where it is installed

    # It changes to the root, and has no standard error: neither may matter here.
    DaemonContext(detach_process=False, stdout=sys.stdout, stderr=sys.stderr).open()


def fork():
    """Leave one process at the end of the usual double fork; the first waits for it, by the end of a pipe."""
    reading, writing = os.pipe()
    if os.fork():
        os.close(writing)
        os.read(reading, 1)
        sys.exit(0)
    os.setsid()
    if os.fork():
        os._exit(0)


def open_files(folder):
    return [os.open(folder / str(number), os.O_CREAT | os.O_RDWR) for number in range(FILES)]


def work(name, seconds=0.5):
    with tracer.start_as_current_span(f"GET {name}") as span:
        busy_function(name)(seconds)
    return identity(span)


def main(how, answer):
    close = {"hand": by_hand, "python-daemon": by_python_daemon}.get(how, by_range)
    if how == "shared":
        deactivate()
        descriptors._leave_table = lambda: False
        activate()
    if how != "itself":
        fork()
    told = {}
    if how in ("late", "itself"):
        told["busy_before"] = work("busy_before")
    close()
    folder = Path(tempfile.mkdtemp())
    files = open_files(folder)
    told["busy_daemon"] = work("busy_daemon", 2.5 if how == "shared" else 0.5)
    contents = [os.pread(file, 100, 0).decode(errors="replace") for file in files]  # EBADF where somebody has closed it
    Path(answer).write_text(json.dumps({"contents": contents, "told": told, "pid": os.getpid()}))


main(*sys.argv[1:])
