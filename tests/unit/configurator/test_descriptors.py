"""The agent's descriptors: out of the application's sight and reach, whatever either does."""

from __future__ import annotations

import gc
import os
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from otel_profiling_configurator.agent import descriptors
from otel_profiling_configurator.agent.descriptors import Keeper

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="tables of descriptors of threads are Linux's")

SECONDS = 10.0


def open_here() -> set[str]:
    return set(os.listdir("/proc/thread-self/fd"))  # noqa: PTH208 - numbers are all that is wanted


@pytest.fixture
def keeper() -> Iterator[Keeper]:
    """A keeper whose thread ends with the test."""
    keeper = Keeper()
    yield keeper
    keeper.stop(lambda: None, SECONDS)


def test_what_it_opens(keeper: Keeper) -> None:
    """The application sees none of it, neither as a descriptor of its own nor by its number."""
    before = open_here()
    number = keeper.start(lambda: os.open("/dev/null", os.O_RDONLY))
    assert keeper.has_own_table
    assert open_here() == before
    assert keeper.stop(lambda: os.close(number), SECONDS)
    assert open_here() == before


def test_what_the_application_has_open(keeper: Keeper) -> None:
    """Nothing of it is held: a pipe ends when the application closes its end."""
    reading, writing = os.pipe()
    keeper.start(lambda: None)
    os.close(writing)
    assert os.read(reading, 1) == b""
    os.close(reading)


def test_application_that_closes_and_opens(keeper: Keeper, tmp_path: Path) -> None:
    """Under the same number both have what they opened."""
    file = tmp_path / "file"
    theirs = os.open(file, os.O_CREAT | os.O_RDWR)

    def open_same() -> None:
        opened = os.open("/dev/zero", os.O_RDWR)
        os.dup2(opened, theirs)

    keeper.start(open_same)
    contents: list[bytes] = []
    assert keeper.stop(lambda: contents.append(os.read(theirs, 2)), SECONDS)
    assert contents == [b"\0\0"]
    assert file.read_bytes() == b""
    os.write(theirs, b"mine")
    os.close(theirs)
    assert file.read_bytes() == b"mine"


def test_threads_of_the_agent(keeper: Keeper) -> None:
    """Those that are started there have the same table."""
    seen: list[set[str]] = []

    def start() -> None:
        number = os.open("/dev/null", os.O_RDONLY)
        thread = threading.Thread(target=lambda: seen.append({str(number)} & open_here()))
        thread.start()
        thread.join(SECONDS)

    keeper.start(start)
    assert [len(numbers) for numbers in seen] == [1]


def test_words(keeper: Keeper) -> None:
    """What is said on standard output and error there can be read, in order and once."""
    keeper.start(lambda: (os.write(2, b"first\n"), os.write(1, b"second\n")))
    before = open_here()
    assert keeper.take_words() == b"first\nsecond\n"
    assert keeper.take_words() == b""
    assert open_here() == before


def test_last_words(keeper: Keeper) -> None:
    """What is said while the agent is stopped can be read afterwards, once, though its table is gone."""
    keeper.start(lambda: os.write(2, b"first\n"))
    keeper.stop(lambda: os.write(2, b"second\n"), SECONDS)
    assert keeper.take_words() == b"first\nsecond\n"
    assert keeper.take_words() == b""


def test_words_of_one_that_was_never_started() -> None:
    """There are none."""
    assert Keeper().take_words() == b""


@pytest.mark.parametrize("unshared", [True, False], ids=["an older Linux", "forbidden"])
def test_without_close_range(unshared: bool, keeper: Keeper, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the kernel lacks it, ``unshare`` does; where both are forbidden, the application's table is used."""
    libc = descriptors._libc()

    class Older:
        def __getattr__(self, name: str) -> Any:
            return getattr(libc, name)

        def syscall(self, *_: int) -> int:
            return -1

        def unshare(self, flags: int) -> int:
            return int(libc.unshare(flags)) if unshared else -1

    monkeypatch.setattr(descriptors, "_libc", Older)
    before = open_here()
    number = keeper.start(lambda: os.open("/dev/null", os.O_RDONLY))
    assert keeper.has_own_table is unshared
    assert (open_here() == before) is unshared
    assert keeper.take_words() == b""
    assert keeper.stop(lambda: os.close(number), SECONDS)
    assert open_here() == before


def test_without_ctypes(keeper: Keeper, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some Pythons are built without: the agent is started all the same."""

    def missing() -> Any:
        raise ImportError("No module named '_ctypes'")

    monkeypatch.setattr(descriptors, "_libc", missing)
    assert keeper.start(lambda: 7) == 7
    assert not keeper.has_own_table


def test_failures(keeper: Keeper) -> None:
    """They are raised where somebody waits; a panic of the native module's, which is no `Exception`, as one."""

    class Panic(BaseException):
        pass

    def fail() -> None:
        raise OSError("of the agent")

    def panic() -> None:
        raise Panic("unwrap")

    with pytest.raises(OSError, match="of the agent"):
        keeper.start(fail)
    with pytest.raises(RuntimeError, match="Panic: unwrap"):
        keeper.stop(panic, SECONDS)


def test_stopped_twice(keeper: Keeper) -> None:
    """The second time nothing happens, as where nothing was started."""
    assert Keeper().stop(lambda: pytest.fail("called"), SECONDS)
    keeper.start(lambda: None)
    keeper.stop(lambda: None, SECONDS)
    assert keeper.stop(lambda: pytest.fail("called"), SECONDS)


def test_stop_that_takes_long(keeper: Keeper) -> None:
    """It is not waited for."""
    keeper.start(lambda: None)
    go_on = threading.Event()
    assert not keeper.stop(lambda: go_on.wait(SECONDS), 0.01)
    go_on.set()


@pytest.mark.parametrize("enabled", [True, False])
def test_garbage(enabled: bool, keeper: Keeper) -> None:
    """None is collected on that thread: an object of the application's would close its descriptor in the wrong table."""
    collected: list[int] = []

    def note(phase: str, _info: dict[str, int]) -> None:
        if phase == "start":
            collected.append(threading.get_ident())

    def litter() -> None:
        for _ in range(20_000):
            cycle: list[Any] = []
            cycle.append(cycle)

    was_enabled = gc.isenabled()
    gc.callbacks.append(note)
    try:
        (gc.enable if enabled else gc.disable)()
        keeper.start(litter)
        assert keeper.stop(litter, SECONDS)
        assert gc.isenabled() is enabled
    finally:
        gc.callbacks.remove(note)
        (gc.enable if was_enabled else gc.disable)()
    assert not set(collected) - {threading.get_ident()}


@pytest.mark.parametrize("enabled", [True, False])
def test_fork_while_garbage_is_not_collected(keeper: Keeper, enabled: bool) -> None:
    """Another thread waits for the agent just then: the child collects garbage as the application wants it."""
    entered, go = threading.Event(), threading.Event()

    def hold() -> None:
        entered.set()
        go.wait(SECONDS)

    was_enabled = gc.isenabled()
    (gc.enable if enabled else gc.disable)()
    waiting = threading.Thread(target=keeper.start, args=(hold,))
    try:
        waiting.start()
        assert entered.wait(SECONDS)
        assert not gc.isenabled()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of CPython: threads are running while it forks
            process = os.fork()
        if process == 0:
            descriptors.after_fork_in_child()
            os._exit(gc.isenabled())
        assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == enabled
    finally:
        go.set()
        waiting.join()
        (gc.enable if was_enabled else gc.disable)()


def test_words_after_the_end(keeper: Keeper) -> None:
    """The last ones are kept; nothing more is read, since the thread's id may be another one's by then."""
    keeper.start(lambda: os.write(2, b"first words"))
    assert keeper.take_words() == b"first words"
    keeper.stop(lambda: os.write(2, b"last words"), SECONDS)
    assert [keeper.take_words(), keeper.take_words()] == [b"last words", b""]


def test_thread_seen_by_the_application(keeper: Keeper) -> None:
    """`threading` does not know it, and it ends when it has stopped what it started."""
    before = threading.active_count()
    keeper.start(lambda: None)
    assert threading.active_count() == before
    assert keeper.stop(lambda: None, SECONDS)
    end = time.monotonic() + SECONDS
    while Path(f"/proc/self/task/{keeper._thread}").exists():
        assert time.monotonic() < end
        time.sleep(0.001)
