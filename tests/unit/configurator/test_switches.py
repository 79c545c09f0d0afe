"""The parts that the hooks of several runtimes share, and the runtimes that need no library."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import socket
import sys
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import opentelemetry.context as context_api
import pytest
from opentelemetry.trace import get_current_span
from otel_profiling_configurator import switches
from otel_profiling_configurator.switches.attributes import replacing
from otel_profiling_configurator.switches.entered import followed_run
from otel_profiling_configurator.switches.entered import following as following_function

from .fakes import Tags, context_with, pairs_of, root_labels


class Base:
    def method(self) -> str:
        return "original"


class Derived(Base):
    pass


def replaced(_self: object) -> str:
    return "replaced"


class TestReplacing:
    """Attributes are replaced, and put back as they were."""

    @pytest.mark.parametrize("owner", [Base, Derived])
    def test_undo(self, owner: Any) -> None:
        """An attribute of its own is put back, an inherited one seen again."""
        before = dict(vars(owner))
        replace = replacing()
        replace(owner, "method", replaced)
        assert owner().method() == "replaced"
        replace.undo()
        assert dict(vars(owner)) == before

    def test_replaced_again_by_somebody_else(self) -> None:
        """Is left to them."""
        owner = SimpleNamespace(name=1)
        replace = replacing()
        replace(owner, "name", 2)
        owner.name = 3
        replace.undo()
        assert owner.name == 3

    def test_failure_in_between(self) -> None:
        """What was replaced before it is put back."""
        owner = SimpleNamespace(name=1)

        def install() -> None:
            with replacing() as replace:
                replace(owner, "name", 2)
                replace(owner, "missing", 2)

        with pytest.raises(AttributeError):
            install()
        assert owner.name == 1


@pytest.fixture
def hooks(following_all: Tags) -> Tags:
    return following_all


def current() -> dict[str, str]:
    return pairs_of(get_current_span()) or {}


def in_span(name: str, span_id: int = 0xA) -> contextvars.Context:
    """A copied context in which a span is current."""
    copied = contextvars.copy_context()
    copied.run(context_api.attach, context_with(root_labels(name, span_id)))
    return copied


class TestFollowedRun:
    """A context's `run`, on its way to a worker thread."""

    @pytest.mark.parametrize(
        "function", [print, len, "text".upper, functools.partial(print, 1), None, 5], ids=lambda function: str(function)[:30]
    )
    def test_anything_else(self, function: Any) -> None:
        """Is returned as it is."""
        assert followed_run(function) is function

    def test_labels_of_the_context(self, following: Tags) -> None:
        """Are carried inside, and those of the thread's own context again after it, with the result unchanged."""
        run = followed_run(in_span("a").run)

        def inside(number: int, *, add: int) -> int:
            assert following.current() == current() != {}
            return number + add

        assert run(inside, 1, add=2) == 3
        assert following.current() == {}

    def test_partial(self, following: Tags) -> None:
        """`asyncio.to_thread` makes a partial call of it."""
        seen: list[dict[str, str]] = []
        followed_run(functools.partial(in_span("a").run, lambda: seen.append(following.current())))()
        assert seen[0]["span_name"] == "a"
        assert following.current() == {}

    def test_exception(self, following: Tags) -> None:
        """Reaches the caller, and the labels are taken off."""
        with pytest.raises(ZeroDivisionError):
            followed_run(in_span("a").run)(lambda: 1 / 0)
        assert following.current() == {}


def test_function_for_a_worker(following: Tags) -> None:
    """Carries the labels of the context it is run in, and leaves none behind."""
    seen: list[dict[str, str]] = []

    def work() -> None:
        seen.append(following.current())

    in_span("a").run(wrapped := following_function(work))
    assert seen[0]["span_name"] == "a"
    assert following.current() == {}
    assert wrapped.__name__ == "work"


class TestThreadPools:
    """`concurrent.futures` and what asyncio hands to it."""

    def test_to_thread(self, hooks: Tags) -> None:
        """The worker carries the labels of the task, and none between two jobs."""
        seen: dict[str, dict[str, str]] = {}

        async def handle(name: str, span_id: int) -> None:
            token = context_api.attach(context_with(root_labels(name, span_id)))
            await asyncio.to_thread(lambda: seen.update({name: hooks.current()}))
            context_api.detach(token)

        async def main() -> None:
            asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
            for number, name in enumerate("abc"):
                await handle(name, number + 1)
            between = await asyncio.get_running_loop().run_in_executor(None, hooks.current)
            assert between == {}

        asyncio.run(main())
        assert {name: labels["span_name"] for name, labels in seen.items()} == {"a": "a", "b": "b", "c": "c"}

    @pytest.mark.usefixtures("hooks")
    @pytest.mark.parametrize("name", ["function", "inner", "self", "fn"])
    def test_argument_of_any_name(self, name: str) -> None:
        """The application's function gets its keyword arguments, whatever ours are called."""

        def work(**arguments: int) -> dict[str, int]:
            return arguments

        run = functools.partial(in_span("a").run, work, **{name: 1})
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(run).result() == {name: 1}

    @pytest.mark.usefixtures("hooks")
    def test_proxy(self) -> None:
        """A callable that answers no questions is called as it would be without us."""

        class Unbound:
            def __getattr__(self, name: str) -> object:
                raise RuntimeError(f"unbound {name}")

            def __call__(self) -> int:
                return 5

        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(Unbound()).result() == 5
        assert following_function(Unbound())() == 5

    def test_run_in_executor(self, hooks: Tags) -> None:
        """With a copied context's `run`, as applications write it."""
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(in_span("a").run, hooks.current).result()["span_name"] == "a"
            assert pool.submit(hooks.current).result() == {}

    @pytest.mark.usefixtures("unwatched", "following")
    def test_undone(self) -> None:
        """The original methods are back."""
        before = [ThreadPoolExecutor.submit, asyncio.Handle._run, asyncio.BaseEventLoop.create_task]
        undo = switches.install()
        assert ThreadPoolExecutor.submit is not before[0]
        undo()
        assert [ThreadPoolExecutor.submit, asyncio.Handle._run, asyncio.BaseEventLoop.create_task] == before


def test_reader_on_uvloop(hooks: Tags) -> None:
    """It runs in the context that it was added in, whatever task has run before it."""
    uvloop = pytest.importorskip("uvloop")
    uvloop_callbacks = pytest.importorskip("otel_profiling_configurator.switches.uvloop_callbacks")
    seen: list[dict[str, str]] = []
    undo = uvloop_callbacks.install(uvloop)

    async def main() -> None:
        left, right = socket.socketpair()
        loop = asyncio.get_running_loop()
        read = loop.create_future()

        def readable() -> None:
            seen.append(hooks.current())
            loop.remove_reader(left)
            read.set_result(None)

        with left, right:
            loop.add_reader(left, readable)
            token = context_api.attach(context_with(root_labels("a", 1)))
            right.send(b"x")
            await read
            seen.append(hooks.current())
            context_api.detach(token)

    loop = uvloop.new_event_loop()
    try:
        loop.run_until_complete(main())
    finally:
        loop.close()
        undo()
    assert [labels.get("span_name") for labels in seen] == [None, "a"]


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks come with Python 3.12")
def test_eager_task(hooks: Tags) -> None:
    """Runs its first step at once; then the labels are those of the task that made it again."""

    async def child() -> None:
        token = context_api.attach(context_with(root_labels("child", 0xC)))
        assert hooks.current() == current()
        await asyncio.sleep(0)
        assert hooks.current() == current()
        context_api.detach(token)

    async def main() -> None:
        asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
        task = asyncio.create_task(child())
        assert hooks.current() == {}
        token = context_api.attach(context_with(root_labels("parent", 0xA)))
        second = asyncio.create_task(child())
        assert hooks.current() == current()
        await task
        assert hooks.current() == current()
        await second
        context_api.detach(token)

    asyncio.run(main())
    assert hooks.current() == {}
