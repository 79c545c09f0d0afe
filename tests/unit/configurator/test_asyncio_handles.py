"""Labels follow asyncio's tasks, callbacks and timers on the standard library's loop."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import opentelemetry.context as context_api
import pytest
import wrapt
from opentelemetry.context import Context
from opentelemetry.context.context import _RuntimeContext
from opentelemetry.context.contextvars_context import ContextVarsRuntimeContext
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import get_current_span
from otel_profiling_configurator import ProfilingTracerProvider, Scope, switches
from otel_profiling_configurator.context import runtime_context
from otel_profiling_configurator.switches import asyncio_handles

from .fakes import Tags, pairs_of

pytestmark = pytest.mark.usefixtures("renames_are_unfollowed")


class WithoutVariable(_RuntimeContext):
    """A runtime context that keeps its context variable to itself."""

    def __init__(self) -> None:
        self._inner = ContextVarsRuntimeContext()

    def attach(self, context: Context) -> Any:
        return self._inner.attach(context)

    def get_current(self) -> Context:
        return self._inner.get_current()

    def detach(self, token: Any) -> None:
        self._inner.detach(token)


@pytest.fixture(params=["contextvars", "custom"])
def tags(request: pytest.FixtureRequest, writer: Tags) -> Iterator[Tags]:
    """Labels follow attach, detach and the loop, for OpenTelemetry's runtime context and for one of an application's own."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "custom":
            patch.setattr(context_api, "_RUNTIME_CONTEXT", WithoutVariable())
        undos = [runtime_context.install(), asyncio_handles.install(asyncio)]
        yield writer
        for undo in reversed(undos):
            undo()


@pytest.fixture
def tracer(sdk_provider: TracerProvider) -> Any:
    return ProfilingTracerProvider(sdk_provider, Scope.ALL, Scope.ALL).get_tracer("test")


class Checks:
    """Compares what the thread carries with the span that is current, wherever it is called."""

    def __init__(self, tags: Tags) -> None:
        self.tags = tags
        self.seen: list[str] = []

    def __call__(self) -> None:
        assert self.tags.current() == (pairs_of(get_current_span()) or {})
        self.seen.append(self.tags.current().get("span_name", "-"))


@pytest.fixture
def check(tags: Tags) -> Checks:
    return Checks(tags)


def test_tasks_taking_turns(check: Checks, tracer: Any) -> None:
    """Each step of each task has the labels of that task's span, nested ones too."""

    async def request(name: str) -> None:
        with tracer.start_as_current_span(name):
            for _ in range(3):
                check()
                await asyncio.sleep(0)
                check()
                with tracer.start_as_current_span(f"{name}.query"):
                    check()
                    await asyncio.sleep(0)
                    check()
                check()
        check()
        await asyncio.sleep(0)
        check()

    async def main() -> None:
        await asyncio.gather(*(request(name) for name in "abcd"))
        check()

    asyncio.run(main())
    assert {name: check.seen.count(name) for name in "abcd"} == dict.fromkeys("abcd", 9)
    assert check.seen.count("-") == 9
    # They really took turns: neighbours are different requests.
    assert any({one[0], other[0]} == {"a", "b"} for one, other in zip(check.seen, check.seen[1:], strict=False))


def test_callbacks_and_timers(check: Checks, tracer: Any) -> None:
    """They run in the context they were scheduled in, and have its labels, whatever ran before them."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        done = asyncio.Event()
        with tracer.start_as_current_span("scheduled"):
            loop.call_soon(check)
            loop.call_later(0.001, check)
            loop.call_at(loop.time() + 0.001, check)
            loop.call_soon_threadsafe(check)
            loop.call_soon(check, context=_empty())
        with tracer.start_as_current_span("other"):
            loop.call_soon(check)
            loop.call_later(0.005, done.set)
        await done.wait()
        check()

    asyncio.run(main())
    assert sorted(check.seen) == ["-", "-", "other", "scheduled", "scheduled", "scheduled", "scheduled"]


def _empty() -> Any:
    """A context of the interpreter's in which no span is current."""
    context = contextvars.copy_context()
    context.run(context_api.attach, Context())
    return context


def test_callback_from_another_thread(check: Checks, tags: Tags, tracer: Any) -> None:
    """It brings that thread's context along, and labels only the loop's thread."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        done = asyncio.Event()

        def other() -> None:
            with tracer.start_as_current_span("of the thread"):
                loop.call_soon_threadsafe(check)
                loop.call_soon_threadsafe(done.set)
            assert tags.current() == {}

        thread = threading.Thread(target=other)
        with tracer.start_as_current_span("of the loop"):
            thread.start()
            await done.wait()
            check()
        thread.join(10)

    asyncio.run(main())
    assert check.seen == ["of the thread", "of the loop"]


def test_span_handed_on_to_a_task(check: Checks, tracer: Any) -> None:
    """A task has the span that was current when it was made, also after that has ended for its maker."""

    async def background() -> None:
        await asyncio.sleep(0)
        check()

    async def main() -> None:
        with tracer.start_as_current_span("request"):
            task = asyncio.create_task(background())
        check()
        await task
        check()

    asyncio.run(main())
    assert check.seen == ["-", "request", "-"]


def test_cancelled_and_failing_tasks(check: Checks, tracer: Any) -> None:
    """However a task ends, the next one has its own labels."""

    async def cancelled() -> None:
        with tracer.start_as_current_span("cancelled"):
            try:
                await asyncio.sleep(60)
            finally:
                check()

    async def failing() -> None:
        with tracer.start_as_current_span("failing"):
            check()
            raise LookupError

    async def main() -> None:
        task = asyncio.create_task(cancelled())
        await asyncio.sleep(0)
        task.cancel()
        results = await asyncio.gather(task, failing(), return_exceptions=True)
        assert [type(result) for result in results] == [asyncio.CancelledError, LookupError]
        check()

    asyncio.run(main())
    assert sorted(check.seen) == ["-", "cancelled", "failing"]


def test_async_generator(check: Checks, tracer: Any) -> None:
    """A span that it makes current is its consumer's too while that iterates, as the API has it."""

    async def rows() -> Any:
        with tracer.start_as_current_span("rows"):
            for row in range(2):
                await asyncio.sleep(0)
                yield row

    async def main() -> None:
        async for _ in rows():
            check()
            await asyncio.sleep(0)
            check()
        check()

    asyncio.run(main())
    assert check.seen == ["rows"] * 4 + ["-"]


def test_loop_run_inside_a_span(check: Checks, tracer: Any) -> None:
    """After the loop the thread has the labels of its own context again, not of the last step."""

    async def main() -> None:
        with tracer.start_as_current_span("inner"):
            await asyncio.sleep(0)
            check()

    with tracer.start_as_current_span("outer"):
        asyncio.run(main())
        check()
    check()
    assert check.seen == ["inner", "outer", "-"]


def test_loop_left_inside_a_span(check: Checks, tracer: Any) -> None:
    """A loop that ends by an exception, or is stopped while a task is at work, leaves no labels behind either."""

    async def work() -> None:
        with tracer.start_as_current_span("work"):
            asyncio.get_running_loop().stop()
            check()
            await asyncio.sleep(0)
            check()

    loop = asyncio.new_event_loop()
    task = loop.create_task(work())
    loop.run_forever()
    check()
    loop.run_until_complete(task)
    check()

    def interrupt() -> None:
        raise KeyboardInterrupt

    with tracer.start_as_current_span("interrupted"):
        loop.call_soon(interrupt)
    with pytest.raises(KeyboardInterrupt):
        loop.run_forever()
    check()
    loop.close()
    assert check.seen == ["work", "-", "work", "-", "-"]


@pytest.mark.skipif(sys.version_info < (3, 11), reason="runners came with Python 3.11")
def test_loop_run_in_steps(check: Checks, tracer: Any) -> None:
    """A runner runs the loop several times; in between the thread has no labels of a task."""

    async def work() -> None:
        with tracer.start_as_current_span("work"):
            check()

    with asyncio.Runner() as runner:  # type: ignore[attr-defined, unused-ignore]
        for _ in range(2):
            runner.run(work())
            check()
    assert check.seen == ["work", "-", "work", "-"]


def test_undo() -> None:
    """The very functions that were there are there again."""
    before = vars(asyncio.Handle)["_run"], vars(asyncio.BaseEventLoop)["run_forever"]
    undo = asyncio_handles.install(asyncio)
    assert vars(asyncio.Handle)["_run"] is not before[0]
    assert vars(asyncio.BaseEventLoop)["run_forever"] is not before[1]
    undo()
    assert (vars(asyncio.Handle)["_run"], vars(asyncio.BaseEventLoop)["run_forever"]) == before


def test_undo_after_somebody_else() -> None:
    """Who wrapped the methods after us stays, and still reaches the originals."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(asyncio.Handle, "_run", asyncio.Handle._run)
        patch.setattr(asyncio.BaseEventLoop, "run_forever", asyncio.BaseEventLoop.run_forever)
        undo = asyncio_handles.install(asyncio)
        ours = asyncio.Handle._run
        ran: list[int] = []

        @functools.wraps(ours)
        def theirs(self: Any) -> None:
            ran.append(1)
            ours(self)

        asyncio.Handle._run = theirs  # type: ignore[method-assign]
        undo()
        assert asyncio.Handle._run is theirs
        asyncio.run(asyncio.sleep(0))
        assert ran


@pytest.mark.usefixtures("unwatched")
def test_installed_through_the_table(writer: Tags) -> None:
    """The runtime is followed because its library has been imported, and no longer after the undo."""
    assert writer.current() == {}
    before = asyncio.Handle._run
    undo = switches.install()
    assert asyncio.Handle._run is not before
    undo()
    assert asyncio.Handle._run is before


@pytest.fixture
def hooks(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[Callable[[Any], None]]]:
    """Post-import hooks, to be called by the test."""
    registered: dict[str, list[Callable[[Any], None]]] = {}
    monkeypatch.setattr(wrapt, "register_post_import_hook", lambda hook, name: registered.setdefault(name, []).append(hook))
    return registered


@pytest.mark.usefixtures("unwatched")
def test_runtime_imported_later(hooks: dict[str, list[Callable[[Any], None]]]) -> None:
    """Nothing is replaced until the library is there."""
    before = asyncio.Handle._run
    undo = switches.install()
    assert asyncio.Handle._run is before
    (hook,) = hooks["asyncio"]
    hook(asyncio)
    assert asyncio.Handle._run is not before
    undo()
    assert asyncio.Handle._run is before


def test_runtime_imported_after_the_undo(hooks: dict[str, list[Callable[[Any], None]]]) -> None:
    """A hook can't be taken back: it does nothing."""
    before = asyncio.Handle._run
    switches.install()()
    (hook,) = hooks["asyncio"]
    hook(asyncio)
    assert asyncio.Handle._run is before
