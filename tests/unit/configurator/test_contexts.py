"""The native module follows every switch of a `contextvars.Context`, whoever makes it, with no hook in any library."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import inspect
import signal
import socket
import sys
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import opentelemetry.context as context_api
import pytest
from otel_profiling_configurator import guard

from .fakes import Tags, context_with, in_span, name_of, on_a_thread, root_labels

pytestmark = pytest.mark.usefixtures("following_natively")

VARIABLE = contextvars.ContextVar("VARIABLE", default="default")
"""The application's own."""


@pytest.fixture
def tags(following_natively: Tags) -> Tags:
    return following_natively


def attach(name: str) -> Any:
    return context_api.attach(context_with(root_labels(name, ord(name[0]))))


class TestRun:
    """`Context.run`"""

    def test_labels_inside(self, tags: Tags) -> None:
        """Are those of the context, those around it again after it, at any depth."""

        def outer() -> list[str | None]:
            return [name_of(tags), in_span("b").run(name_of, tags), name_of(tags)]

        assert in_span("a").run(outer) == ["a", "b", "a"]
        assert name_of(tags) is None

    def test_changes_inside(self, tags: Tags) -> None:
        """Stay in the context, and are found again when it is entered once more."""
        context = contextvars.copy_context()
        context.run(attach, "a")
        assert name_of(tags) is None
        assert context.run(name_of, tags) == "a"

    def test_result_and_arguments(self) -> None:
        """Are what they are without us, whatever the arguments are called."""

        def function(*args: int, **kwargs: int) -> tuple[tuple[int, ...], dict[str, int]]:
            return args, kwargs

        context = in_span("a")
        assert context.run(function, 1, 2, self=3, callable=4, context=5) == ((1, 2), {"self": 3, "callable": 4, "context": 5})

    @pytest.mark.parametrize("wrong", [(), (None,), (5,)])
    def test_wrong_arguments(self, wrong: tuple[Any, ...], tags: Tags) -> None:
        """Are a TypeError, and the labels are those of before."""
        token = attach("a")
        with pytest.raises(TypeError):
            in_span("b").run(*wrong)
        assert name_of(tags) == "a"
        context_api.detach(token)

    @pytest.mark.parametrize(
        "error", [ValueError("one"), KeyboardInterrupt(), SystemExit(3), StopIteration(5), GeneratorExit()]
    )
    def test_exception_on_its_way_out(self, error: BaseException, tags: Tags) -> None:
        """Is the application's own, with its traceback and what it was raised from; the labels go."""

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
        assert [entry.name for entry in raised.traceback][-1] == "fail"
        assert tags.current() == {}

    def test_exception_that_is_being_handled(self, tags: Tags) -> None:
        """Is the same one inside and afterwards."""
        handled = LookupError("handled")
        try:
            raise handled
        except LookupError:
            seen = [in_span("a").run(sys.exc_info)[1], sys.exc_info()[1]]
        assert seen == [handled, handled]
        assert tags.current() == {}

    def test_context_that_is_entered_already(self, tags: Tags) -> None:
        """Is a RuntimeError as ever, and the labels stay those of the context."""
        context = in_span("a")

        def again() -> str | None:
            with pytest.raises(RuntimeError, match="already entered"):
                context.run(int)
            return name_of(tags)

        assert context.run(again) == "a"
        assert tags.current() == {}

    def test_context_that_another_thread_has_entered(self, tags: Tags) -> None:
        """The same: neither thread gets the other's labels."""
        context = in_span("a")

        def other() -> str | None:
            with pytest.raises(RuntimeError, match="already entered"):
                context.run(int)
            return name_of(tags)

        assert context.run(on_a_thread, other) is None
        assert tags.current() == {}

    def test_context_without_a_value(self, tags: Tags) -> None:
        """Has no span, whatever is current around it."""
        token = attach("a")
        assert contextvars.Context().run(name_of, tags) is None
        assert name_of(tags) == "a"
        context_api.detach(token)

    def test_worker_threads(self, tags: Tags) -> None:
        """Whoever starts them: each has the labels of the context that it has entered, and none after it."""
        contexts = {name: in_span(name) for name in "abcdefgh"}
        with ThreadPoolExecutor(3) as pool:
            jobs = {name: pool.submit(context.run, name_of, tags) for name, context in contexts.items()}
            assert {name: job.result() for name, job in jobs.items()} == {name: name for name in contexts}
            assert {pool.submit(name_of, tags).result() for _ in range(10)} == {None}
        assert on_a_thread(lambda: contexts["a"].run(name_of, tags)) == "a"

    def test_partial(self, tags: Tags) -> None:
        """A call that is made later is followed as any."""
        assert functools.partial(in_span("a").run, name_of)(tags) == "a"
        assert list(map(in_span("a").run, [name_of], [tags])) == ["a"]

    def test_what_it_looks_like(self) -> None:
        """Is what it is without us: the same object, with its text and its signature."""
        run = contextvars.Context.run
        assert type(run).__name__ == "method_descriptor"
        assert run is vars(contextvars.Context)["run"]
        for name in ("run", "get"):
            assert inspect.isroutine(getattr(contextvars.Context(), name))
        for method in (contextvars.ContextVar.set, contextvars.ContextVar.reset):
            assert next(iter(inspect.signature(method).parameters)) == "self"

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


class TestVariables:
    """`ContextVar.set` and `ContextVar.reset`"""

    def test_variables_of_others(self, tags: Tags) -> None:
        """Are set and reset as ever, and change no label."""
        token = attach("a")
        calls = len(tags.calls)
        first = VARIABLE.set("one")
        assert (VARIABLE.get(), first.old_value, first.var) == ("one", contextvars.Token.MISSING, VARIABLE)
        VARIABLE.reset(first)
        assert VARIABLE.get() == "default"
        with pytest.raises(RuntimeError):
            VARIABLE.reset(first)
        with pytest.raises(TypeError):
            VARIABLE.reset("no token")  # type: ignore[arg-type] # on purpose
        assert len(tags.calls) == calls
        context_api.detach(token)

    def test_variable_of_opentelemetry_set_by_others(self, tags: Tags) -> None:
        """As asgiref does, that copies variables from one context to another."""
        variable: Any = context_api._RUNTIME_CONTEXT._current_context  # type: ignore[attr-defined] # as others find it
        token = variable.set(context_with(root_labels("a")))
        assert name_of(tags) == "a"
        variable.reset(token)
        assert name_of(tags) is None
        outer = variable.set(context_with(root_labels("b")))
        variable.set(context_api.Context())
        assert name_of(tags) is None
        variable.reset(outer)

    def test_anything_as_its_value(self, tags: Tags) -> None:
        """Is no error of ours."""
        variable: Any = context_api._RUNTIME_CONTEXT._current_context  # type: ignore[attr-defined] # as above
        for value in (None, "text", 5, object()):
            token = variable.set(value)
            assert name_of(tags) is None
            variable.reset(token)

    def test_generator(self, tags: Tags) -> None:
        """A span that it makes current is its consumer's, too, while that iterates, as the API has it."""

        def rows() -> Generator[int, None, None]:
            token = attach("rows")
            yield 1
            context_api.detach(token)

        generator = rows()
        assert name_of(tags) is None
        assert next(generator) == 1
        assert name_of(tags) == "rows"
        assert list(generator) == []
        assert name_of(tags) is None

    def test_generator_that_is_run_in_another_context(self, tags: Tags) -> None:
        """Its labels are those of whoever runs it."""

        def names() -> Generator[str | None, None, None]:
            while True:
                yield name_of(tags)

        generator = names()
        assert [in_span(name).run(next, generator) for name in "aba"] == ["a", "b", "a"]
        assert next(generator) is None


class TestLibraries:
    """None of them knows of us."""

    def test_to_thread(self, tags: Tags) -> None:
        """The worker has the labels of the task, and none between two jobs."""
        seen: dict[str, str | None] = {}

        async def main() -> None:
            asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
            for name in "abc":
                token = attach(name)
                seen[name] = await asyncio.to_thread(name_of, tags)
                context_api.detach(token)
            assert await asyncio.get_running_loop().run_in_executor(None, name_of, tags) is None

        asyncio.run(main())
        assert seen == {"a": "a", "b": "b", "c": "c"}

    @pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks come with Python 3.12")
    def test_eager_task(self, tags: Tags) -> None:
        """Runs its first step at once; then the labels are those of the task that made it again."""

        async def child() -> None:
            token = attach("child")
            assert name_of(tags) == "child"
            await asyncio.sleep(0)
            assert name_of(tags) == "child"
            context_api.detach(token)

        async def main() -> None:
            asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
            first = asyncio.create_task(child())
            assert name_of(tags) is None
            token = attach("parent")
            second = asyncio.create_task(child())
            assert name_of(tags) == "parent"
            await first
            assert name_of(tags) == "parent"
            await second
            context_api.detach(token)

        asyncio.run(main())
        assert tags.current() == {}

    def test_uvloop(self, tags: Tags) -> None:
        """Tasks, timers and readers have the labels of their own contexts."""
        uvloop = pytest.importorskip("uvloop")
        seen: list[str | None] = []

        async def main() -> None:
            left, right = socket.socketpair()
            loop = asyncio.get_running_loop()
            read = loop.create_future()

            def readable() -> None:
                seen.append(name_of(tags))
                loop.remove_reader(left)
                read.set_result(None)

            with left, right:
                loop.add_reader(left, readable)
                token = attach("a")
                right.send(b"x")
                await read
                seen.append(name_of(tags))
                context_api.detach(token)

        loop = uvloop.new_event_loop()
        try:
            loop.run_until_complete(main())
        finally:
            loop.close()
        assert seen == [None, "a"]
        assert tags.current() == {}

    def test_transport_of_uvloop(self, tags: Tags) -> None:
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
            token = attach(name)
            _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            writer.write(b"x")
            await received
            assert name_of(tags) == name
            context_api.detach(token)
            writer.close()
            server.close()

        received: Any = None
        loop = uvloop.new_event_loop()
        loop.run_until_complete(handle("a"))
        loop.close()
        assert seen == [None], "the server was made outside the span"

    def test_trio(self, tags: Tags) -> None:
        """Tasks take turns, and what they hand to worker threads has their labels."""
        trio = pytest.importorskip("trio")
        seen: dict[str, list[str | None]] = {}

        async def work(name: str) -> None:
            token = attach(name)
            seen[name] = []
            for _ in range(3):
                seen[name].append(name_of(tags))
                await trio.sleep(0)
            seen[name].append(await trio.to_thread.run_sync(name_of, tags))
            context_api.detach(token)

        async def main() -> None:
            async with trio.open_nursery() as nursery:
                for name in "ab":
                    nursery.start_soon(work, name)

        trio.run(main)
        assert seen == {"a": ["a"] * 4, "b": ["b"] * 4}
        assert tags.current() == {}

    def test_anyio_workers(self, tags: Tags) -> None:
        """As FastAPI runs its plain functions: each worker has the labels of the request."""
        anyio = pytest.importorskip("anyio")
        pytest.importorskip("anyio.to_thread")
        seen: dict[str, str | None] = {}

        async def request(name: str) -> None:
            token = attach(name)
            seen[name] = await anyio.to_thread.run_sync(name_of, tags)
            context_api.detach(token)

        async def main() -> None:
            async with anyio.create_task_group() as group:
                for name in "abc":
                    group.start_soon(request, name)

        anyio.run(main)
        assert seen == {"a": "a", "b": "b", "c": "c"}

    def test_asgiref(self, tags: Tags) -> None:
        """As Django runs its plain views: there and back, whatever it does with variables."""
        sync = pytest.importorskip("asgiref.sync")

        async def inner() -> str | None:
            return name_of(tags)

        def view() -> list[str | None]:
            return [name_of(tags), sync.async_to_sync(inner)(), name_of(tags)]

        async def request(name: str) -> list[str | None]:
            token = attach(name)
            seen = [*await sync.sync_to_async(view)(), name_of(tags)]
            context_api.detach(token)
            return seen

        async def main() -> list[list[str | None]]:
            return await asyncio.gather(*(request(name) for name in "ab"))

        assert asyncio.run(main()) == [["a"] * 4, ["b"] * 4]
        assert tags.current() == {}


class TestSignals:
    """Python calls signal handlers wherever it happens to be, in what writes labels by thread, too."""

    @pytest.fixture(autouse=True)
    def in_production(self, monkeypatch: pytest.MonkeyPatch, tags: Tags) -> None:
        monkeypatch.setattr(guard, "reraise", False)
        self.tags = tags

    def interrupted_at(self, count: int) -> Callable[[str, str], None]:
        """What adds labels, and gets a signal at one of them."""
        add = self.tags.add_thread_tag
        left = [count]

        def add_thread_tag(key: str, value: str) -> None:
            add(key, value)
            left[0] -= 1
            if left[0] == 0:
                signal.raise_signal(signal.SIGUSR1)

        return add_thread_tag

    @pytest.mark.parametrize("at", [1, 2, 3])
    @pytest.mark.parametrize("error", [TimeoutError, KeyboardInterrupt])
    def test_exception_of_a_handler(self, at: int, error: type[BaseException]) -> None:
        """Reaches the application, the very one; what was entered is left, and no part of the labels stays."""
        raised_by_handler = error("of the application")

        def handler(*_signal: object) -> None:
            raise raised_by_handler

        def work() -> None:
            context.run(int)
            for _ in range(1000):  # CPython 3.14 raises it when other code runs
                pass

        context = in_span("a")
        before = signal.signal(signal.SIGUSR1, handler)
        try:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(self.tags, "add_thread_tag", self.interrupted_at(at))
                with pytest.raises(error) as raised:
                    work()
        finally:
            signal.signal(signal.SIGUSR1, before)
        assert raised.value is raised_by_handler
        assert "work" in [entry.name for entry in raised.traceback]
        self.tags.mistakes.clear()  # what was interrupted is removed to the last, there or not
        assert self.tags.current() == {}
        assert context.run(name_of, self.tags) == "a", "the context was left, and is followed again"

    def test_exception_of_a_handler_in_attach(self) -> None:
        """Reaches the application from there."""

        def handler(*_signal: object) -> None:
            raise TimeoutError

        before = signal.signal(signal.SIGUSR1, handler)
        try:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(self.tags, "add_thread_tag", self.interrupted_at(1))
                with pytest.raises(TimeoutError):
                    contextvars.copy_context().run(attach, "a")
        finally:
            signal.signal(signal.SIGUSR1, before)
        self.tags.mistakes.clear()  # as above
        assert self.tags.current() == {}
