"""Uses what makes `multiprocessing` start its resource tracker; prints what each Python process beside this one runs."""

import json
import multiprocessing
import os
from multiprocessing import shared_memory
from pathlib import Path

from busy import busy_function, tracer


def work(function):
    with tracer.start_as_current_span(f"GET {function}"):
        busy_function(function)(0.3)


def threads_of(pid):
    return len(list(Path(f"/proc/{pid}/task").iterdir()))


def command_of(pid):
    return Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")


if __name__ == "__main__":
    memory = shared_memory.SharedMemory(create=True, size=16)
    child = multiprocessing.get_context("forkserver").Process(target=work, args=("busy_child",))
    child.start()
    child.join()
    work("busy_parent")
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    helpers = {next(argument for argument in command_of(pid) if "import main" in argument): threads_of(pid) for pid in children}
    memory.close()
    memory.unlink()
    print(json.dumps({"exit": child.exitcode, "helpers": helpers}))
