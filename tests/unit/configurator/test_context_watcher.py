"""Labels follow the interpreter's own word of each switch of a context (CPython 3.14 and later)."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import opentelemetry.context as context_api
import pytest
from otel_profiling_configurator import guard, switches
from otel_profiling_configurator.switches import context_watcher

from .fakes import Tags, context_with, on_a_thread, root_labels

if sys.version_info < (3, 14):
    pytest.skip("CPython 3.14 tells of switches", allow_module_level=True)
if shutil.which("cc") is None:
    pytest.skip("there was no compiler to build the watcher with", allow_module_level=True)

from otel_profiling_configurator.switches import _context_watcher

VARIABLE = contextvars.ContextVar("VARIABLE", default="default")


@pytest.fixture
def tags(following_all: Tags) -> Tags:
    return following_all


@pytest.fixture
def watch() -> Iterator[Callable[[Callable[[str], Any]], None]]:
    """Have a function called with each switch, and with the value of `VARIABLE`."""
    yield lambda follow: _context_watcher.watch(VARIABLE, follow)
    _context_watcher.unwatch()


def in_span(name: str) -> contextvars.Context:
    """A copied context in which a span is current."""
    copied = contextvars.copy_context()
    copied.run(context_api.attach, context_with(root_labels(name, ord(name))))
    return copied


def name_of(tags: Tags) -> str | None:
    return tags.current().get("span_name")


def test_context_that_is_entered_by_hand(tags: Tags) -> None:
    """Its labels are carried inside, those around it again after it, at any depth."""
    assert in_span("a").run(name_of, tags) == "a"
    assert name_of(tags) is None

    def outer() -> list[str | None]:
        return [name_of(tags), in_span("b").run(name_of, tags), name_of(tags)]

    assert in_span("a").run(outer) == ["a", "b", "a"]
    assert tags.current() == {}


@pytest.mark.parametrize("error", [ValueError("one"), KeyboardInterrupt(), SystemExit(3), StopIteration(5), GeneratorExit()])
def test_exception_on_its_way_out(error: BaseException, tags: Tags) -> None:
    """Is the application's own, with its traceback and what it was raised from; the labels are taken off."""

    def fail() -> None:
        assert name_of(tags) == "a"
        try:
            raise LookupError("first")
        except LookupError as first:
            raise error from first

    with pytest.raises(type(error)) as raised:
        in_span("a").run(fail)
    assert raised.value is error
    assert isinstance(error.__cause__, LookupError)
    assert raised.traceback[-1].name == "fail"
    assert tags.current() == {}


def test_worker_threads(tags: Tags) -> None:
    """Whoever starts them: each carries the labels of the context that it has entered, and none after it."""
    contexts = {name: in_span(name) for name in "abcdefgh"}
    with ThreadPoolExecutor(3) as pool:
        jobs = {name: pool.submit(context.run, name_of, tags) for name, context in contexts.items()}
        assert {name: job.result() for name, job in jobs.items()} == {name: name for name in contexts}
        assert {pool.submit(name_of, tags).result() for _ in range(10)} == {None}
    assert on_a_thread(lambda: contexts["a"].run(name_of, tags)) == "a"


def test_between_the_steps_of_a_loop(tags: Tags) -> None:
    """Labels stay, since the next step has the same most of the time; they are taken off at the loop's end."""
    seen: list[str | None] = []

    async def main() -> None:
        token = context_api.attach(context_with(root_labels("a")))
        calls = len(tags.calls)
        for _ in range(10):
            await asyncio.sleep(0)
            seen.append(name_of(tags))
        assert len(tags.calls) == calls
        context_api.detach(token)

    asyncio.run(main())
    assert seen == ["a"] * 10
    assert tags.current() == {}


def test_context_entered_within_a_step(tags: Tags) -> None:
    """On its way out the labels are the step's again: only the loop's own context is left out."""

    async def main() -> list[str | None]:
        return [in_span("a").run(name_of, tags), name_of(tags)]

    assert asyncio.run(main()) == ["a", None]


def test_loop_within_a_context(tags: Tags) -> None:
    """Its steps have their own labels, and afterwards those of the context it was run in are back."""

    async def main() -> str | None:
        context_api.attach(context_with(root_labels("b")))
        await asyncio.sleep(0)
        return name_of(tags)

    assert in_span("a").run(lambda: (asyncio.run(main()), name_of(tags))) == ("b", "a")
    assert tags.current() == {}


def test_transport_of_uvloop(tags: Tags) -> None:
    """A protocol is called from native code: it has the labels of the context that the transport was made in."""
    uvloop = pytest.importorskip("uvloop")
    seen: list[str | None] = []

    class Protocol(asyncio.Protocol):
        def data_received(self, data: bytes) -> None:
            seen.append(name_of(tags))
            received.set_result(data)

    async def handle(name: str) -> None:
        nonlocal received
        received = asyncio.get_running_loop().create_future()
        server = await asyncio.get_running_loop().create_server(Protocol, "127.0.0.1", 0)
        token = context_api.attach(context_with(root_labels(name)))
        _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(b"x")
        await received
        assert name_of(tags) == name
        context_api.detach(token)
        writer.close()
        server.close()

    received: Any = None
    uvloop.run(handle("a"))
    assert seen == [None], "the server was made outside the span"


def test_undone(following: Tags) -> None:
    """Nothing is followed any more, and everything can be followed again."""
    for _ in range(20):  # the interpreter has room for eight
        undo = switches.install()
        context = in_span("a")
        assert context.run(name_of, following) == "a"
        undo()
    assert context.run(name_of, following) is None


@pytest.mark.usefixtures("following")
def test_what_is_needless_beside_it() -> None:
    """Is left as the libraries made it."""
    before = [ThreadPoolExecutor.submit, asyncio.Handle._run, asyncio.BaseEventLoop.create_task]
    undo = switches.install()
    assert [ThreadPoolExecutor.submit, asyncio.Handle._run, asyncio.BaseEventLoop.create_task] == before
    undo()


def test_without_the_module(following: Tags, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each library is followed by itself."""
    monkeypatch.setitem(sys.modules, context_watcher.__name__.replace("context_watcher", "_context_watcher"), None)
    undo = switches.install()
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(in_span("a").run, name_of, following).result() == "a"
    undo()


def test_no_room(following: Tags, watch: Callable[[Callable[[str], Any]], None]) -> None:
    """Is no failure: each library is followed by itself."""
    watch(lambda _value: None)
    undo = switches.install()
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(in_span("a").run, name_of, following).result() == "a"
    undo()


class TestModule:
    """What is written in C."""

    def test_value(self, watch: Callable[[Callable[[str], Any]], None]) -> None:
        """Is that of the context just switched to, or the variable's default."""
        seen: list[str] = []
        inner = contextvars.copy_context()
        inner.run(VARIABLE.set, "inner")
        watch(seen.append)
        inner.run(int)
        contextvars.Context().run(int)
        _context_watcher.unwatch()
        assert seen == ["inner", "default", "default", "default"]

    @pytest.mark.parametrize("arguments", [(), (VARIABLE,), (VARIABLE, 5), ("VARIABLE", print), (VARIABLE, print, 5)])
    def test_bad_arguments(self, arguments: tuple[Any, ...]) -> None:
        """Are a TypeError, and nothing is watched."""
        with pytest.raises(TypeError):
            _context_watcher.watch(*arguments)
        with pytest.raises(TypeError):
            _context_watcher.leave_loop("outer")  # type: ignore[arg-type] # on purpose

    def test_twice(self, watch: Callable[[Callable[[str], Any]], None]) -> None:
        """Watches once."""
        watch(print)
        with pytest.raises(RuntimeError):
            watch(print)

    def test_exception_of_a_signal_handler(self, watch: Callable[[Callable[[str], Any]], None]) -> None:
        """Handlers run wherever Python code does, here too: the very exception is raised right afterwards."""
        error = TimeoutError("of the application", 5)

        def handler(*_signal: object) -> None:
            raise error

        def follow(_value: str) -> None:
            if armed:
                armed.pop()
                signal.raise_signal(signal.SIGUSR1)

        def work() -> None:
            for _ in range(1000):
                contextvars.Context().run(int)

        armed = [1]
        before = signal.signal(signal.SIGUSR1, handler)
        watch(follow)
        try:
            with pytest.raises(TimeoutError) as raised:
                work()
        finally:
            signal.signal(signal.SIGUSR1, before)
        assert raised.value is error
        assert "work" in [entry.name for entry in raised.traceback]

    def test_signals_at_any_moment(self, tags: Tags, monkeypatch: pytest.MonkeyPatch) -> None:
        """None of them is lost, and no label is left behind."""
        monkeypatch.setattr(guard, "reraise", False)

        def handler(*_signal: object) -> None:
            raise TimeoutError

        def work(seconds: float) -> None:
            signal.setitimer(signal.ITIMER_REAL, seconds)
            end = time.monotonic() + 5
            while time.monotonic() < end:
                for context in contexts:
                    context.run(int)

        contexts = [in_span(name) for name in "ab"]
        gc.collect()
        gc.disable()  # Python itself loses what is raised in the middle of a destructor
        before = signal.signal(signal.SIGALRM, handler)
        try:
            for number in range(300):
                with pytest.raises(TimeoutError):
                    work(0.0005 + number * 1e-6)
        finally:
            signal.signal(signal.SIGALRM, before)
            gc.enable()
        contextvars.copy_context().run(int)
        assert tags.current() == {}
        tags.mistakes.clear()  # what was interrupted is taken off to the last, there or not

    def test_exception_sent_to_another_thread(self, watch: Callable[[Callable[[str], Any]], None]) -> None:
        """Is raised there, as whoever sent it wanted."""

        class SentError(Exception):
            pass

        def follow(_value: str) -> None:
            if armed:
                armed.pop()
                raise SentError

        def work() -> None:
            armed.append(1)
            for _ in range(1000):
                contextvars.Context().run(int)

        armed: list[int] = []
        watch(follow)
        with pytest.raises(SentError):
            on_a_thread(work)

    def test_deep_recursion(self, tags: Tags) -> None:
        """No room for another call is no error of the application's."""

        def recurse(depth: int) -> int:
            try:
                return recurse(depth + 1)
            except RecursionError:
                contextvars.copy_context().run(int)
                return depth

        assert in_span("a").run(recurse, 0) > 100
        assert tags.current() == {}

    def test_no_reference_is_kept(self, watch: Callable[[Callable[[str], Any]], None]) -> None:
        """Neither of values nor of what the function returned."""

        class Value:
            pass

        watch(lambda _value: Value())
        context = contextvars.copy_context()
        for _ in range(100):
            context.run(VARIABLE.set, Value())  # type: ignore[arg-type] # any object will do
            with pytest.raises(ZeroDivisionError):
                context.run(lambda: 1 / 0)
        context.run(VARIABLE.set, "text")
        gc.collect()
        assert sum(type(each) is Value for each in gc.get_objects()) == 0
