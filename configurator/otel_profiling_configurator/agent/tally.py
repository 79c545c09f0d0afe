"""Counts uploads that failed, for all processes that were forked from one: what is wrong is said by one of them.

A server forks a dozen workers and may renew each of them every few seconds. If each counted for itself, each would say that
profiles are lost, and few would live to see that they arrive again.

The count is in memory that forked children share. Semaphores of the C library change it, each step at once, so that nobody has
to hold a lock: a process that is killed in the middle of a step leaves none behind. No descriptor is needed, and no file.
"""

from __future__ import annotations

import ctypes
import functools
import mmap
import struct
from typing import Any, NamedTuple

_TIME = struct.Struct("d")
_BEGAN, _LATEST, _SEMAPHORES = 0, _TIME.size, 64
"""Where things are in the memory: two times of the monotonic clock, and then the semaphores."""
_ROOM = 64
"""Bytes for each semaphore: twice what the largest has (glibc and musl, 64 bit)."""


class Losses(NamedTuple):
    """What was lost from beginning to end. Times are of the monotonic clock, which all processes share."""

    began: float
    latest: float
    uploads: int


class Tally:
    """How many uploads have failed since they began to fail.

    Raises:
        OSError: No memory or no semaphores can be had here.
    """

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, mmap.PAGESIZE)
        start = ctypes.addressof(ctypes.c_char.from_buffer(self._memory))
        # Two tokens, of which whoever takes one has something to say, and a counter.
        self._may_begin, self._may_end, self._failed = (start + _SEMAPHORES + number * _ROOM for number in range(3))
        for semaphore, value in ((self._may_begin, 1), (self._may_end, 0), (self._failed, 0)):
            if _libc().sem_init(semaphore, 1, value) != 0:
                raise OSError(ctypes.get_errno(), "sem_init")

    def add(self, uploads: int, now: float) -> bool:
        """Count uploads that failed by `now`; return whether they are the first ones, and it is on the caller to say so."""
        libc = _libc()
        _TIME.pack_into(self._memory, _LATEST, now)
        for _ in range(uploads):
            libc.sem_post(self._failed)
        if libc.sem_trywait(self._may_begin) != 0:
            return False
        _TIME.pack_into(self._memory, _BEGAN, now)
        libc.sem_post(self._may_end)
        return True

    def end(self, since: float) -> Losses | None:
        """Return what was lost, and begin anew; None if nothing was, or some after `since`, or another process has said it."""
        libc = _libc()
        if self._time(_LATEST) > since or libc.sem_trywait(self._may_end) != 0:
            return None
        losses = Losses(self._time(_BEGAN), self._time(_LATEST), self.count())
        while libc.sem_trywait(self._failed) == 0:
            pass
        libc.sem_post(self._may_begin)
        return losses

    def count(self) -> int:
        """Return how many uploads have failed since they began to fail."""
        value = ctypes.c_int()
        _libc().sem_getvalue(self._failed, ctypes.byref(value))
        return value.value

    def _time(self, where: int) -> float:
        time: float = _TIME.unpack_from(self._memory, where)[0]
        return time


@functools.cache
def _libc() -> Any:
    libc = ctypes.PyDLL(None, use_errno=True)  # as opposed to CDLL, it holds the GIL; none of these waits
    libc.sem_init.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_uint]
    libc.sem_getvalue.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
    for function in (libc.sem_trywait, libc.sem_post):
        function.argtypes = [ctypes.c_void_p]
    return libc
