"""Prints of each thread that waits at a futex whether that is private to this process: Python's threads, and others."""

import ctypes
import json
import platform
import threading
import time
from pathlib import Path

FUTEX = {"x86_64": 202, "aarch64": 98}[platform.machine()]
PRIVATE = 128
PR_FUTEX_HASH, PR_FUTEX_HASH_GET_SLOTS = 78, 2

COUNT = 20


def private_waits():
    """Whether each waits at a private futex: Python's threads, then others."""
    pythons = {str(thread.native_id) for thread in threading.enumerate()}
    of_python, of_others = [], []
    for folder in Path("/proc/self/task").iterdir():
        try:
            words = folder.joinpath("syscall").read_text().split()
        except OSError:
            continue  # it has ended
        if words[:1] == [str(FUTEX)]:
            (of_python if folder.name in pythons else of_others).append(bool(int(words[2], 16) & PRIVATE))
    return of_python, of_others


over = threading.Event()
for _ in range(COUNT):
    threading.Thread(target=over.wait).start()
places = ctypes.CDLL(None).prctl(PR_FUTEX_HASH, PR_FUTEX_HASH_GET_SLOTS, 0, 0, 0)
end = time.monotonic() + 10
while True:  # one of the agent's may be at work at this moment
    of_python, of_others = private_waits()
    if (len(of_python) >= COUNT and of_others.count(False) >= 2) or time.monotonic() > end:
        break
    time.sleep(0.05)
over.set()
print(json.dumps({"has_table": places > 0, "python": of_python, "others": of_others}))
