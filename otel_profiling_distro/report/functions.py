"""Which functions the CPU time was spent in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import PurePath

from otel_profiling_distro.receiver import Frame, Sample

from .model import HotFunction

_ANONYMOUS = ("<listcomp>", "<setcomp>", "<dictcomp>", "<genexpr>", "<lambda>")
_NO_FRAME = Frame("(no Python frame)", "", 0)


def hottest_functions(samples: Iterable[Sample], limit: int) -> tuple[HotFunction, ...]:
    """Return up to `limit` functions by the CPU time spent in themselves, most first; of equals by name."""
    times: Counter[tuple[str, str]] = Counter()
    for sample in samples:
        frame = _named_leaf(sample.stack)
        times[frame.function, PurePath(frame.filename).name] += sample.value
    total = sum(times.values())
    ranked = sorted(times.items(), key=lambda item: (-item[1], item[0]))
    return tuple(HotFunction(*name, cpu_ns, cpu_ns / total) for name, cpu_ns in ranked[:limit])


def _named_leaf(stack: tuple[Frame, ...]) -> Frame:
    """Return the innermost frame that has a name: a comprehension's time is the time of the function it stands in.

    Python 3.12 inlines most comprehensions and so counts the same way by itself.
    """
    for frame in stack:
        if not frame.function.endswith(_ANONYMOUS):
            return frame
    return stack[0] if stack else _NO_FRAME
