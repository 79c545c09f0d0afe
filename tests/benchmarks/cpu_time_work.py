"""The work whose sampled time is compared with its CPU time: threads or tasks with a span and a function each.

A function's name says in every profiler's stacks whose work a sample is of; a span's name says it in ours, too.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import io
import random
import threading
import time
import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

from opentelemetry import trace

Step = Callable[[], None]

DATA = bytes(range(256)) * 4096
"""One megabyte."""


def python() -> Step:
    return lambda: _discard(sum(range(20_000)) + len([number * number for number in range(2_000)]))


def sha256() -> Step:
    return lambda: _discard(hashlib.sha256(DATA))


def _discard(_result: object) -> None:
    return


def compression() -> Step:
    return lambda: _discard(zlib.compress(DATA))


def numpy_product() -> Step:
    import numpy as np

    matrix = np.ones((300, 300))
    return lambda: _discard(matrix @ matrix)


def pandas_groups() -> Step:
    import numpy as np
    import pandas as pd

    frame = pd.DataFrame({"key": np.arange(200_000) % 1000, "value": np.arange(200_000.0)})
    return lambda: _discard(frame.groupby("key").agg({"value": ["mean", "max"]}))


def pillow_resize() -> Step:
    from PIL import Image

    image = Image.frombytes("RGB", (640, 480), DATA[: 640 * 480 * 3])
    return lambda: _discard(image.resize((320, 240), Image.Resampling.LANCZOS))


def lxml_parse() -> Step:
    from lxml import etree

    document = b"<a>" + b"<b c='d'>text</b>" * 20_000 + b"</a>"
    return lambda: _discard(etree.parse(io.BytesIO(document)))


def request() -> Step:
    """What a request to a service does: 1 to 3 ms of work, then 5 to 20 ms of waiting for somebody."""
    chance = random.Random(7)  # noqa: S311  # the same turns in each run

    def step() -> None:
        _use(chance.uniform(0.001, 0.003))
        time.sleep(chance.uniform(0.005, 0.020))

    return step


def _use(seconds: float) -> None:
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


class Kind(NamedTuple):
    """Threads, or tasks, that do the same."""

    make_step: Callable[[], Step]
    count: int
    tasks: bool = False
    """Whether they are tasks of one event loop; they work and wait as `request` does."""


CASES: dict[str, list[Kind]] = {
    "Python, 1 thread": [Kind(python, 1)],
    "Python, 8 threads": [Kind(python, 8)],
    "sha256, 1 thread": [Kind(sha256, 1)],
    "sha256, 2 threads": [Kind(sha256, 2)],
    "zlib, 1 thread": [Kind(compression, 1)],
    "zlib, 2 threads": [Kind(compression, 2)],
    "numpy": [Kind(numpy_product, 1)],
    "pandas": [Kind(pandas_groups, 1)],
    "Pillow": [Kind(pillow_resize, 1)],
    "lxml": [Kind(lxml_parse, 1)],
    "requests that wait, 8 threads": [Kind(request, 8)],
    "requests that wait, 8 asyncio tasks": [Kind(request, 8, tasks=True)],
    "Python beside sha256": [Kind(python, 1), Kind(sha256, 1)],
}


def _named(name: str) -> Callable[[Callable[[], Any]], Any]:
    """Return a function called `name` that calls another."""
    namespace: dict[str, Any] = {}
    exec(f"def {name}(call):\n    return call()\n", namespace)  # the only way to a name on the stack
    return namespace[name]


def _until(step: Step, seconds: float) -> float:
    """Repeat a step until it has used some seconds of CPU time, which are returned to the end of the last step."""
    begin = time.thread_time()
    while time.thread_time() - begin < seconds:
        step()
    return time.thread_time() - begin


async def _task(name: str, seconds: float, seed: int) -> float:
    chance, work, used = random.Random(seed), _named(name), 0.0  # noqa: S311  # as above
    with trace.get_tracer("cpu-time").start_as_current_span(name):
        while used < seconds:
            used += work(functools.partial(_until, python(), chance.uniform(0.001, 0.003)))
            await asyncio.sleep(chance.uniform(0.005, 0.020))
    return used


def run(case: str, seconds: float) -> dict[str, float]:
    """Do all work of a case, some seconds of CPU time, and return what each span has used, by its name."""
    kinds = CASES[case]
    share = seconds / sum(kind.count for kind in kinds)
    used: dict[str, float] = {}

    def in_thread(name: str, step: Step, start: threading.Barrier) -> None:
        work = _named(name)
        start.wait()
        with trace.get_tracer("cpu-time").start_as_current_span(name):
            used[name] = work(functools.partial(_until, step, share))

    async def in_tasks(names: list[str]) -> None:
        figures = await asyncio.gather(*(_task(name, share, seed) for seed, name in enumerate(names)))
        used.update(zip(names, figures, strict=True))

    start = threading.Barrier(sum(kind.count for kind in kinds if not kind.tasks) or 1)
    threads, expected = [], []
    for kind in kinds:
        names = [f"work_{kind.make_step.__name__}_{number}" for number in range(kind.count)]
        expected += names
        if kind.tasks:
            threads.append(threading.Thread(target=lambda names=names: asyncio.run(in_tasks(names))))
        else:
            threads += [threading.Thread(target=in_thread, args=(name, kind.make_step(), start)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    missing = set(expected) - set(used)
    if missing:
        raise RuntimeError(f"not measured: {', '.join(sorted(missing))}")
    return used
