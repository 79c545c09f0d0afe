"""Threads, locks and thread-local state of the operating system's threads, whatever was monkey-patched.

``gevent.monkey.patch_all()`` replaces those of `threading` and `_thread` by greenlet ones. Pyroscope's labels belong to OS
threads, and a call that blocks in native code can only be waited for from another OS thread. A second instance of the
built-in module `_thread` has the originals, whoever patched the first one, and whenever (CPython 3.10 to 3.14).
"""

from __future__ import annotations

import functools
import importlib.machinery
import importlib.util
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Set
from typing import Any


def _second_instance(name: str) -> Any:
    spec = importlib.machinery.BuiltinImporter.find_spec(name)
    if spec is None or spec.loader is None:
        raise ImportError(f"{name} is not built in")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


_thread = _second_instance("_thread")

get_ident: Callable[[], int] = _thread.get_ident
get_native_id: Callable[[], int] = _thread.get_native_id
allocate_lock: Callable[[], Any] = _thread.allocate_lock
start_thread: Callable[..., int] = _thread.start_new_thread
Local: Any = _thread._local


class Helper:
    """Runs one function on an OS thread of its own, which nobody has to wait for.

    CPython 3.12 starts no more threads once the interpreter begins to exit, so there the thread is started by `prepare` and
    waits. Everywhere else `prepare` does nothing.
    """

    def __init__(self) -> None:
        self._go: Any = None
        self._done: Any = None
        self._function: Callable[[], Any] | None = None
        self._error: Exception | None = None

    def prepare(self) -> None:
        """Make sure that `run` can do its work during the exit of the interpreter."""
        if sys.version_info[:2] == (3, 12):
            self._start()

    def run(self, function: Callable[[], Any], seconds: float) -> bool:
        """Run `function`, wait for it at most `seconds`, and return whether it has ended; what it raises is raised here."""
        self._function, self._error = function, None
        if self._go is None:
            try:
                self._start()
            except RuntimeError:  # the interpreter is exiting and nobody prepared
                function()
                return True
        go, done = self._go, self._done
        self._go = None
        go.release()
        ended = bool(done.acquire(timeout=seconds))
        if self._error is not None:
            raise self._error
        return ended

    def _start(self) -> None:
        go, done = _thread.allocate_lock(), _thread.allocate_lock()
        go.acquire()
        done.acquire()

        def work() -> None:
            go.acquire()
            try:
                if self._function is not None:
                    self._function()
            except Exception as error:  # noqa: BLE001 - raised again where somebody waits for it
                self._error = error
            finally:
                done.release()

        _thread.start_new_thread(work, ())
        self._go, self._done = go, done


def thread_ids() -> set[int]:
    """Return the kernel's ids of all threads of this process, native ones too; empty where the system has no ``/proc``."""
    try:
        return {int(name) for name in os.listdir("/proc/self/task")}  # noqa: PTH208 - names are all that is wanted
    except OSError:
        return set()


def native_threads(older: Set[int]) -> set[int]:
    """Return the kernel's ids of the threads that are not among `older`, nor this one, nor known to `threading`."""
    # One that eventlet made has no id of the kernel's.
    known = {getattr(thread, "native_id", None) for thread in threading.enumerate()}
    return thread_ids() - older - known - {get_native_id()}


def cpu_clock(thread_id: int) -> int:
    """Return the kernel's clock id for the CPU time of a thread, see clock_getcpuclockid(3) on Linux."""
    return ~thread_id << 3 | 6


def cpu_time(thread_id: int) -> int:
    """Return the CPU time that the thread has used, in nanoseconds; 0 for one that has ended."""
    try:
        return time.clock_gettime_ns(cpu_clock(thread_id))
    except OSError:
        return 0


def _letter(stat: bytes) -> bytes:
    """Return the letter of a thread's state from its ``stat`` file; empty where there is none."""
    return stat.rpartition(b") ")[2][:1] if b") " in stat else b""


def are_still(thread_ids: Iterable[int], seconds: float) -> bool:
    """Whether all of these threads sleep, and have used no CPU time between two looks; waits for that at most `seconds`.

    A single look might see each of them between two moves. The GIL is held all the time: where other threads want it, each
    system call that gives it up gets it back 5 ms later, and these are some dozens.
    """
    libc = _libc()
    threads = [(thread, f"/proc/self/task/{thread}/stat".encode()) for thread in thread_ids]
    end = time.monotonic() + seconds
    before = -1
    while time.monotonic() < end:
        now = 0
        for thread, path in threads:
            if _state(libc, path) in b"RD":
                now = -1
                break
            now += cpu_time(thread)
        if now == before != -1:
            return True
        before = now
        libc.usleep(_BETWEEN_LOOKS)
    return False


_BETWEEN_LOOKS = 100
"""Microseconds. The sampler, once awake, does something in each stretch of this length."""


@functools.cache
def _libc() -> Any:
    import ctypes  # noqa: PLC0415 - takes milliseconds, and only processes that fork need it

    return ctypes.PyDLL(None)  # as opposed to CDLL, it holds the GIL during a call


def _state(libc: Any, path: bytes) -> bytes:
    """Return the letter of a thread's state from its ``stat`` file; ``S`` for one that has ended."""
    import ctypes  # noqa: PLC0415 - as above

    file = libc.open(path, os.O_RDONLY | os.O_CLOEXEC)
    if file < 0:
        return b"S"
    buffer = ctypes.create_string_buffer(128)
    libc.read(file, buffer, 127)
    libc.close(file)
    return _letter(buffer.value) or b"S"
