"""Work of several kinds, each in a thread, a span and a function of its own; prints the CPU seconds that each used.

Arguments: seconds of CPU time for each thread, how many threads wait for nothing, and one kind of work for each thread.
"""

import hashlib
import json
import sys
import threading
import time

from busy import tracer

DATA = bytes(1 << 20)


def python():
    sum(range(10_000))


def sha256():
    hashlib.sha256(DATA)


def request():
    end = time.thread_time() + 0.002
    while time.thread_time() < end:
        pass
    wait()


def wait():
    time.sleep(0.01)


def until(step, seconds):
    before = time.thread_time()
    while time.thread_time() < before + seconds:
        step()
    return time.thread_time() - before


def work(name, step, seconds):
    namespace = {"until": until}
    exec(f"def {name}(step, seconds):\n    return until(step, seconds)\n", namespace)
    with tracer.start_as_current_span(name):
        used[name] = namespace[name](step, seconds)


seconds, idle, *kinds = sys.argv[1:]
steps = {"python": python, "sha256": sha256, "request": request}
used = {}
over = threading.Event()
for _ in range(int(idle)):
    threading.Thread(target=over.wait).start()
names = {f"busy_{kind}_{number}": steps[kind] for number, kind in enumerate(kinds)}
threads = [threading.Thread(target=work, args=(name, step, float(seconds))) for name, step in names.items()]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
over.set()
print(json.dumps(used))
