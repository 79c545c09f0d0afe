"""Processes that were forked from one count uploads that failed together, and one of them says so."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

import pytest

if sys.platform != "linux":
    pytest.skip("what the agent says is caught on Linux only", allow_module_level=True)

from otel_profiling_configurator.agent.tally import Losses, Tally


def in_child(act: Callable[[], bool]) -> bool:
    """Return what `act` does in a forked child."""
    child = os.fork()
    if child == 0:
        try:
            os._exit(act())
        finally:
            os._exit(2)
    return bool(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))


def test_nothing() -> None:
    """Nothing is lost, and nothing ends."""
    tally = Tally()
    assert tally.count() == 0
    assert tally.end(1000.0) is None


def test_beginning_and_end() -> None:
    """Both are found once; then all begins anew."""
    tally = Tally()
    for began in (10.0, 110.0):
        assert tally.add(1, began)
        assert not tally.add(2, began + 10)
        assert tally.count() == 3
        assert tally.end(began + 9) is None
        assert tally.end(began + 10) == Losses(began, began + 10, 3)
        assert tally.end(began + 10) is None
        assert tally.count() == 0


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_forked_children() -> None:
    """They count together with their parent; whoever sees the beginning or the end first is the only one."""
    tally = Tally()
    assert in_child(lambda: tally.add(1, 10.0))
    assert not tally.add(1, 11.0)
    assert not in_child(lambda: tally.add(1, 12.0))
    assert tally.count() == 3
    assert in_child(lambda: tally.end(12.0) == Losses(10.0, 12.0, 3))
    assert tally.end(12.0) is None
    assert tally.add(1, 20.0)


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_many_at_once() -> None:
    """Of children that all see the beginning, and then all the end, at the same moment one says it; none is counted twice."""
    tally = Tally()
    for time in range(20):
        begun = together(8, lambda time=time: tally.add(1, float(time)))  # type: ignore[misc] # mypy knows no such default
        assert begun == 1
        assert tally.count() == 8
        ended = together(8, lambda time=time: tally.end(float(time)) is not None)  # type: ignore[misc] # as above
        assert ended == 1


def together(number: int, act: Callable[[], bool]) -> int:
    """Have so many children do something when all of them are there, and return for how many it was true."""
    reading, writing = os.pipe()
    children = []
    for _ in range(number):
        child = os.fork()
        if child == 0:
            try:
                os.close(writing)
                os.read(reading, 1)  # until the parent closes its end
                os._exit(act())
            finally:
                os._exit(2)
        children.append(child)
    os.close(writing)
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    os.close(reading)
    assert set(codes) <= {0, 1}
    return sum(codes)


def test_descriptors() -> None:
    """It needs none."""
    before = os.listdir("/proc/self/fd")  # noqa: PTH208 - numbers are all that is wanted
    tally = Tally()
    assert os.listdir("/proc/self/fd") == before  # noqa: PTH208 - as above
    assert tally.count() == 0
