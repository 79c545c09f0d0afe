"""Which functions the CPU time was spent in."""

from __future__ import annotations

from collections import Counter
from pathlib import PurePath

from otel_profiling_distro.receiver import Frame, Sample

from .model import HotFunction

_ANONYMOUS = ("<listcomp>", "<setcomp>", "<dictcomp>", "<genexpr>", "<lambda>")
_NO_FRAME = Frame("(no Python frame)", "", 0)


class Work:
    """CPU time added up by function: samples may be many more than fit into memory, functions are few."""

    __slots__ = ("_times", "cpu_ns")

    def __init__(self) -> None:
        self.cpu_ns = 0
        self._times: Counter[tuple[str, str]] = Counter()

    def add(self, sample: Sample) -> None:
        """Add a sample that measures time."""
        frame = _named_leaf(sample.stack)
        self._times[frame.function, frame.filename] += sample.value
        self.cpu_ns += sample.value

    def hottest(self, limit: int) -> tuple[HotFunction, ...]:
        """Return up to `limit` functions by the CPU time spent in themselves, most first; of equals by name."""
        times: Counter[tuple[str, str]] = Counter()
        for (function, filename), value in self._times.items():
            times[function, PurePath(filename).name] += value
        ranked = sorted(times.items(), key=lambda item: (-item[1], item[0]))
        return tuple(HotFunction(*name, cpu_ns, cpu_ns / self.cpu_ns) for name, cpu_ns in ranked[:limit])


def _named_leaf(stack: tuple[Frame, ...]) -> Frame:
    """Return the innermost frame that has a name: a comprehension's time is the time of the function it stands in.

    Python 3.12 inlines most comprehensions and so counts the same way by itself.
    """
    for frame in stack:
        if not frame.function.endswith(_ANONYMOUS):
            return frame
    return stack[0] if stack else _NO_FRAME
