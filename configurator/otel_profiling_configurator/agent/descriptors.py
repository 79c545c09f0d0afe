"""Gives the agent a table of descriptors of its own, in which it and the application never meet.

A daemon closes every descriptor that it has, the agent's among them, and opens files under the same numbers: the agent then
writes into those, or ends because its own are gone. On Linux a thread can have a table of its own, which the threads that it
starts share. So the agent is started on such a thread. The application sees none of its descriptors, whatever it closes and
whenever, and a fork takes none of them along. What the agent says on descriptor 2 goes into a pipe there, and is read by us.

Where a table of its own can't be had (macOS, a container that allows neither ``close_range`` nor ``unshare``), the agent's
descriptors are beside the application's, as those of any library.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import gc
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any

from ..threads.os_threads import allocate_lock, get_native_id, start_thread

_CLOSE_RANGE = 436
"""Number of the system call ``close_range``, the same on all processors (Linux 5.9); the C library's is younger."""
_CLOSE_RANGE_UNSHARE = 2
_CLONE_FILES = 0x400
_LAST = 0xFFFFFFFF

_READING_END = 10
"""Number of the pipe's reading end in the agent's table."""

_MOST_WORDS = 65536
"""Bytes that are read at once: as many as a pipe holds."""


class Keeper:
    """A thread that starts the agent, waits, and stops it: all that is done in the agent's table is done there.

    It runs hardly any Python: an object of the application's that were collected there would close its descriptor in the wrong
    table. So no garbage is collected while it works for the one that waits for it, and then it waits in a lock.
    """

    def __init__(self) -> None:
        self._started, self._go, self._done = allocate_lock(), allocate_lock(), allocate_lock()
        for lock in (self._started, self._go, self._done):
            lock.acquire()
        self._function: Callable[[], Any] = _nothing
        self._result: Any = None
        self._error: Exception | None = None
        self._thread = 0
        self._last_words = b""
        self._waits = False
        self.has_own_table = False
        """Whether the agent's descriptors are out of the application's sight, and its words come to `take_words`."""

    def start(self, function: Callable[[], Any]) -> Any:
        """Call `function` on the thread and return what it returns; threads that it starts are in the agent's table.

        Raises:
            RuntimeError: No thread can be started, or what `function` raised that is no `Exception`.
            Exception: Whatever else `function` raises.
        """
        self._function = function
        prepare()
        with _no_collection():
            start_thread(self._keep, ())
            self._started.acquire()
        self._waits = True
        return self._outcome()

    def stop(self, function: Callable[[], Any], seconds: float) -> bool:
        """Call `function` on the thread, which ends then; return whether that took at most `seconds`; raise as `start` does.

        The second time, and where nothing was started, it does nothing.
        """
        waits, self._waits = self._waits, False
        if not waits:
            return True
        self._function = function
        with _no_collection():
            self._go.release()
            ended = self.wait_for_end(seconds)
        self._outcome()
        return ended

    def take_words(self) -> bytes:
        """Return what the agent's library has said on its descriptor 2 since the last call, also when it has been stopped."""
        last_words, self._last_words = self._last_words, b""
        # Once the thread has been told to end, its id may be another one's, and the descriptor the application's.
        return last_words or (self._words() if self._waits else b"")

    def _words(self) -> bytes:
        return _read(f"/proc/self/task/{self._thread}/fd/{_READING_END}") if self.has_own_table else b""

    def wait_for_end(self, seconds: float) -> bool:
        """Wait until what `stop` called has returned, or for `seconds`; return whether it has."""
        ended = bool(self._done.acquire(timeout=seconds))
        if ended:
            self._done.release()
        return ended

    def _outcome(self) -> Any:
        error, self._error = self._error, None
        if error is not None:
            raise error
        return self._result

    def _keep(self) -> None:
        self._thread = get_native_id()
        self.has_own_table = _leave_table()
        self._call(self._started)
        self._go.acquire()
        self._call(self._done, self._hear_last_words)

    def _hear_last_words(self) -> None:
        with _no_collection():  # nobody may be waiting any more
            self._last_words = self._words()  # they go with the table, and that goes with this thread

    def _call(self, ended: Any, then: Callable[[], None] = lambda: None) -> None:
        try:
            self._result = self._function()
            then()
        except Exception as error:  # noqa: BLE001 - raised again where somebody waits for it
            self._error = error
        except BaseException as error:  # noqa: BLE001 - a panic in the native module is one, and must end no application
            self._error = RuntimeError(f"{type(error).__name__}: {error}")
        finally:
            self._function = _nothing
            ended.release()


def prepare() -> None:
    """Import what the thread will need: a fork in the middle of an import leaves a child in which that import never ends."""
    with contextlib.suppress(ImportError, OSError):
        _libc()


_without_collection = 0
"""How many wait for a thread that works, so that no garbage is collected."""
_was_collecting = False


@contextlib.contextmanager
def _no_collection() -> Iterator[None]:
    global _without_collection, _was_collecting  # noqa: PLW0603 - garbage collection is the process's
    if not _without_collection:
        _was_collecting = gc.isenabled()
    _without_collection += 1
    gc.disable()
    try:
        yield
    finally:
        _without_collection -= 1
        if not _without_collection and _was_collecting:
            gc.enable()


def after_fork_in_child() -> None:
    """Collect garbage again, where the fork came while another thread of the parent waited."""
    global _without_collection  # noqa: PLW0603 - as above
    if _without_collection:
        _without_collection = 0
        if _was_collecting:
            gc.enable()


def _leave_table() -> bool:
    """Give this thread a table of descriptors of its own, empty but for a pipe; return whether that could be done."""
    if sys.platform != "linux":
        return False
    try:
        libc = _libc()
    except (ImportError, OSError):  # a Python without ctypes
        return False
    if libc.syscall(_CLOSE_RANGE, 0, _LAST, _CLOSE_RANGE_UNSHARE) != 0:
        if libc.unshare(_CLONE_FILES) != 0:
            return False
        for name in os.listdir("/proc/thread-self/fd"):  # noqa: PTH208 - names are all that is wanted
            libc.close(int(name))
    import ctypes  # noqa: PLC0415 - has been imported by now

    pipe = (ctypes.c_int * 2)()
    if libc.pipe(pipe) == 0:
        reading, writing = pipe
        # Nothing in the agent's library may get one of the standard numbers; and who has given up privileges may read it still.
        libc.fchmod(reading, 0o666)
        libc.dup3(reading, _READING_END, os.O_CLOEXEC)
        for standard in (0, 1, 2):
            libc.dup2(writing, standard)
    return True


def _read(path: str) -> bytes:
    """Return what is in the pipe at `path`. The GIL is held, so that nobody in Python meets the descriptor that it takes."""
    import ctypes  # noqa: PLC0415 - as above

    libc = _libc()
    file = libc.open(path.encode(), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if file < 0:
        return b""
    buffer = ctypes.create_string_buffer(_MOST_WORDS)
    length = libc.read(file, buffer, _MOST_WORDS)
    libc.close(file)
    return buffer.raw[: max(length, 0)]


@functools.cache
def _libc() -> Any:
    import ctypes  # noqa: PLC0415 - takes milliseconds, and only processes with an agent need it

    if not hasattr(ctypes, "PyDLL"):
        raise OSError(errno.ENOSYS, "no shared libraries")
    return ctypes.PyDLL(None)  # as opposed to CDLL, it holds the GIL during a call


def _nothing() -> None:
    """Stand where a function that has been called stood: what it refers to may go."""
