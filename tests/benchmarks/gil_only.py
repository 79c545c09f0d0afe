"""How close sampled CPU time is to `time.thread_time`, with `gil_only` and without: what the default rests on.

Each figure is a process of its own, in which threads of one kind each run a function with a name of its own, and measure the
CPU time that they use. The share is what the samples of that function add up to, divided by it: 1.00 is the truth, 0 is work
that the profile does not show, and more than 1 is waiting that it shows as work.

Run as ``python tests/benchmarks/gil_only.py``; prints Markdown.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import queue
import socket
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Callable
from typing import Any

from otel_profiling_distro.receiver import Receiver

DATA = bytes(range(256)) * 4096
"""One megabyte."""


def python(end: float) -> None:
    while time.monotonic() < end:
        sum(range(1000))


def hashing(end: float) -> None:
    while time.monotonic() < end:
        hashlib.sha256(DATA).digest()


def compression(end: float) -> None:
    while time.monotonic() < end:
        zlib.compress(DATA)


def numpy_product(end: float) -> None:
    import numpy as np

    matrix = np.ones((300, 300))
    while time.monotonic() < end:
        matrix @ matrix


def request(end: float) -> None:
    """What a request to a service does: a little work, then waiting for somebody."""
    while time.monotonic() < end:
        sum(range(50_000))
        time.sleep(0.005)


def sleeping(end: float) -> None:
    time.sleep(end - time.monotonic())


def on_queue(end: float) -> None:
    try:
        queue.Queue[None]().get(timeout=end - time.monotonic())
    except queue.Empty:
        return


def on_lock(end: float) -> None:
    lock = threading.Lock()
    lock.acquire()
    lock.acquire(timeout=end - time.monotonic())


def on_socket(end: float) -> None:
    left, right = socket.socketpair()
    left.settimeout(end - time.monotonic())
    try:
        left.recv(1)
    except TimeoutError:
        return
    finally:
        left.close()
        right.close()


CASES: dict[str, list[tuple[Callable[[float], None], int]]] = {
    "Python code, 1 thread": [(python, 1)],
    "Python code, 8 threads": [(python, 8)],
    "sha256, 1 thread": [(hashing, 1)],
    "sha256, 2 threads": [(hashing, 2)],
    "zlib, 1 thread": [(compression, 1)],
    "numpy, 1 thread": [(numpy_product, 1)],
    "requests with waiting, 8 threads": [(request, 8)],
    "Python code beside sha256": [(python, 1), (hashing, 1)],
    "Python code beside 40 idle threads": [(python, 1), (sleeping, 10), (on_queue, 10), (on_lock, 10), (on_socket, 10)],
}


def worker(case: str, gil_only: bool, seconds: float, server: str) -> None:
    """Run the threads of one case, and print the CPU seconds that each of their functions used."""
    import pyroscope

    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    pyroscope.configure(application_name="gil", server_address=server, gil_only=gil_only, oncpu=True)
    used: dict[str, float] = {}
    start = threading.Barrier(sum(count for _, count in CASES[case]))

    def run(function: Callable[[float], None]) -> None:
        start.wait()
        before = time.thread_time()
        function(time.monotonic() + seconds)
        used[function.__name__] = used.get(function.__name__, 0.0) + time.thread_time() - before

    threads = [threading.Thread(target=run, args=(function,)) for function, count in CASES[case] for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    pyroscope.shutdown()
    missing = {function.__name__ for function, _ in CASES[case]} - set(used)
    if missing:
        sys.exit(f"not measured: {', '.join(missing)}")
    print(json.dumps(used))


def measure(case: str, gil_only: bool, seconds: float) -> dict[str, tuple[float, float]]:
    """Return the seconds sampled and the CPU seconds used, by function."""
    with Receiver() as receiver:
        command = [sys.executable, __file__, "--worker", case, str(int(gil_only)), str(seconds), receiver.url]
        done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120 + 10 * seconds)
        samples: list[Any] = receiver.samples("gil")
        return {
            name: (sum(s.count for s in samples if any(frame.function == name for frame in s.stack)) / 100, used)
            for name, used in json.loads(done.stdout).items()
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=10.0, help="of each figure")
    parser.add_argument("--worker", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        case, gil_only, seconds, server = arguments.worker
        worker(case, bool(int(gil_only)), float(seconds), server)
        return
    print(f"Python {sys.version.split()[0]}, seconds sampled / seconds of CPU time used\n")
    print("| case | function | CPU used | gil_only=true | gil_only=false |")
    print("|---|---|---|---|---|")
    for case in CASES:
        held, all_threads = measure(case, True, arguments.seconds), measure(case, False, arguments.seconds)
        for name, (sampled, used) in held.items():
            cells = [f"{s:.1f} s ({s / u:.2f})" if u > 0.05 else f"{s:.1f} s" for s, u in ((sampled, used), all_threads[name])]
            print(f"| {case} | `{name}` | {used:.1f} s | {cells[0]} | {cells[1]} |", flush=True)


if __name__ == "__main__":
    main()
