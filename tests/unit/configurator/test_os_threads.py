"""Threads of the operating system, also where `threading` has been monkey-patched."""

from __future__ import annotations

import _thread
import contextvars
import hashlib
import sys
import threading
import time
from types import SimpleNamespace

import pytest
from otel_profiling_configurator.threads import os_threads
from otel_profiling_configurator.threads.os_threads import Helper, Local

from .fakes import on_a_thread


def test_threads_without_an_id_of_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """eventlet makes such; they stand in nobody's way."""
    monkeypatch.setattr(threading, "enumerate", lambda: [SimpleNamespace(), SimpleNamespace(native_id=1)])
    monkeypatch.setattr(os_threads, "thread_ids", lambda: {1, 2, 3})
    assert os_threads.native_threads({2}) == {3}


def test_patched_thread_module(monkeypatch: pytest.MonkeyPatch) -> None:
    """The originals are found after somebody, such as gevent, has replaced those of `_thread`."""

    def replaced(*_: object) -> None:
        raise AssertionError("a greenlet's function was called")

    for name in ("get_ident", "start_new_thread", "allocate_lock"):
        monkeypatch.setattr(_thread, name, replaced)
    monkeypatch.setattr(_thread, "_local", contextvars.ContextVar)
    originals = os_threads._second_instance("_thread")
    assert originals.get_ident() == os_threads.get_ident()
    assert originals._local is not contextvars.ContextVar
    assert originals.allocate_lock().acquire(timeout=1)
    # What was found at our import is as original, though the module was patched after it.
    threads: list[int] = []
    assert Helper().run(lambda: threads.append(os_threads.get_ident()), 10)
    assert threads != [os_threads.get_ident()]


def test_module_that_is_not_built_in() -> None:
    """An interpreter without the built-in module says so when we are imported, and not later in a hot path."""
    with pytest.raises(ImportError, match="json is not built in"):
        os_threads._second_instance("json")


def test_local_state() -> None:
    """Each thread has its own."""
    local = Local()
    local.value = "main"

    def other() -> bool:
        seen = hasattr(local, "value")
        local.value = "other"
        return seen

    assert on_a_thread(other) is False
    assert local.value == "main"


def test_ident() -> None:
    """A thread's identity is the one that `threading` knows it by."""
    assert os_threads.get_ident() == threading.get_ident()
    assert on_a_thread(os_threads.get_ident) != os_threads.get_ident()


def exiting(*_: object) -> None:
    raise RuntimeError("can't create new thread at interpreter shutdown")


@pytest.fixture(params=["3.11", "3.12", "exit"])
def situation(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Where a helper runs: threads can be started late, or only early, or it is too late and nobody prepared."""
    version = (3, 12, 0) if request.param == "3.12" else (3, 11, 0)
    monkeypatch.setattr(os_threads, "sys", SimpleNamespace(version_info=version))
    if request.param == "exit":
        native = SimpleNamespace(allocate_lock=_thread.allocate_lock, start_new_thread=exiting)
        monkeypatch.setattr(os_threads, "_thread", native)
    return str(request.param)


def test_function_that_ends(situation: str) -> None:
    """It has run once when `run` returns, on a thread of its own where one can be had."""
    threads: list[int] = []
    helper = Helper()
    helper.prepare()
    assert helper.run(lambda: threads.append(threading.get_ident()), 10)
    assert len(threads) == 1
    assert (threads == [threading.get_ident()]) is (situation == "exit")


def test_helper_used_again(situation: str) -> None:
    """An agent that is stopped, started and stopped again is waited for each time."""
    ran: list[int] = []
    helper = Helper()
    for n in (1, 2):
        helper.prepare()
        assert helper.run(lambda n=n: ran.append(n), 10)
    assert ran == [1, 2]
    assert situation


def test_threads_that_end_with_the_interpreter(situation: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """CPython 3.12 starts no thread once it begins to exit: there the thread has been started before."""
    helper = Helper()
    helper.prepare()
    monkeypatch.setattr(os_threads._thread, "start_new_thread", exiting)
    threads: list[int] = []
    assert helper.run(lambda: threads.append(threading.get_ident()), 10)
    assert len(threads) == 1
    assert (threads != [threading.get_ident()]) is (situation == "3.12")


@pytest.mark.parametrize("situation", ["3.11", "3.12"], indirect=True)
def test_function_that_hangs(situation: str) -> None:
    """Nobody waits longer than asked for, and the answer says that it has not ended."""
    never, ended = threading.Event(), threading.Event()

    def hang() -> None:
        never.wait(10)
        ended.set()

    helper = Helper()
    helper.prepare()
    started = time.monotonic()
    assert not helper.run(hang, 0.05)
    assert time.monotonic() - started < 5
    assert not ended.is_set()
    never.set()
    assert ended.wait(10)
    assert situation


@pytest.mark.skipif(not os_threads.thread_ids(), reason="no /proc here")
def test_other_threads_of_the_process() -> None:
    """A thread that waits is still, one that computes is not and uses CPU time, one that has ended has used none."""
    start, computing = threading.Event(), threading.Event()

    def work() -> None:
        start.wait(10)
        computing.set()
        # Without the GIL, as the agent's threads work; a second or so, which is what the two looks below have.
        hashlib.pbkdf2_hmac("sha256", b"password", b"salt", 2_000_000)

    others = os_threads.thread_ids()
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    (worker,) = os_threads.thread_ids() - others
    assert os_threads.are_still([worker], 10)
    used = os_threads.cpu_time(worker)
    start.set()
    assert computing.wait(10)
    while os_threads.cpu_time(worker) <= used:
        time.sleep(0.001)
    assert not os_threads.are_still([worker], 0.01)
    assert not os_threads.are_still([worker], 0)
    thread.join(30)
    while worker in os_threads.thread_ids():
        time.sleep(0.001)
    assert os_threads.are_still([worker], 10)
    assert os_threads.cpu_time(worker) == 0


@pytest.mark.skipif(not os_threads.thread_ids(), reason="no /proc here")
def test_gil_is_kept_while_others_are_watched() -> None:
    """Given up, it would come back 5 ms later where other threads want it, for each of some dozens of looks."""
    turns, stop = [0], threading.Event()

    def wants_the_gil() -> None:
        while not stop.is_set():
            turns[0] += 1
            time.sleep(1e-5)

    thread = threading.Thread(target=wants_the_gil)
    thread.start()
    interval = sys.getswitchinterval()
    try:
        sys.setswitchinterval(1000)  # nobody is made to give it up
        time.sleep(0.01)  # nor asked to before that
        before = turns[0]
        assert before
        assert not os_threads.are_still([os_threads.get_native_id()], 0.05)
        assert turns[0] == before
    finally:
        sys.setswitchinterval(interval)
        stop.set()
        thread.join()


@pytest.mark.parametrize(
    ("stat", "letter"),
    [
        (b"", b""),
        (b"7 (a name) S 1 2 3", b"S"),
        (b"7 (a name) R 1 2 3", b"R"),
        (b"7 (a name) D 1 2 3", b"D"),
        (b"7 (a ) R) S 1 2 3", b"S"),
        (b"7 (" + b"a" * 60, b""),
    ],
)
def test_state_as_the_kernel_writes_it(stat: bytes, letter: bytes) -> None:
    """A letter after the thread's name, which may be anything."""
    assert os_threads._letter(stat) == letter
