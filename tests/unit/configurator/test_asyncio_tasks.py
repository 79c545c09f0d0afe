"""Labels follow asyncio's tasks, callbacks and timers on the standard library's loop, in both forms."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import sys
import threading
import weakref
from typing import Any

import opentelemetry.context as context_api
import pytest
from opentelemetry.context import Context
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import get_current_span
from otel_profiling_configurator import ProfilingTracerProvider, Scope

from .fakes import Tags, pairs_of

pytestmark = pytest.mark.usefixtures("renames_are_unfollowed")


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
def check(following: Tags) -> Checks:
    return Checks(following)


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


def test_callback_from_another_thread(check: Checks, following: Tags, tracer: Any) -> None:
    """It brings that thread's context along, and labels only the loop's thread."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        done = asyncio.Event()

        def other() -> None:
            with tracer.start_as_current_span("of the thread"):
                loop.call_soon_threadsafe(check)
                loop.call_soon_threadsafe(done.set)
            assert following.current() == {}

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


def test_between_the_steps_of_a_loop(check: Checks, tracer: Any) -> None:
    """What the loop itself does is nobody's work: no label stays from one step to the next."""

    class Loop(asyncio.SelectorEventLoop):
        def time(self) -> float:  # the loop asks for it between its steps
            if self.is_running() and asyncio.current_task(self) is None:
                between.append(check.tags.current())
            return super().time()

    async def main() -> None:
        with tracer.start_as_current_span("work"):
            for _ in range(5):
                check()
                await asyncio.sleep(0.001)

    between: list[dict[str, str]] = []
    loop = Loop()
    loop.run_until_complete(main())
    loop.close()
    assert check.seen == ["work"] * 5
    assert between
    assert between == [{}] * len(between)


def run_nested(loop: Any, coroutine: Any) -> Any:
    """Run a loop inside one of its own steps, as nest_asyncio, notebooks and some debuggers do."""
    task = loop.create_task(coroutine)
    current = asyncio.current_task(loop)
    assert current is not None
    asyncio.tasks._leave_task(loop, current)
    try:
        while not task.done():
            loop._run_once()
    finally:
        asyncio.tasks._enter_task(loop, current)
    return task.result()


def test_loop_inside_a_step_of_its_own(check: Checks, tracer: Any) -> None:
    """Each step has its labels inside, and the caller's are back afterwards."""

    async def other(name: str) -> None:
        with tracer.start_as_current_span(name):
            for _ in range(3):
                check()
                await asyncio.sleep(0)

    async def handler() -> None:
        with tracer.start_as_current_span("handler"):
            check()
            run_nested(asyncio.get_running_loop(), other("nested"))
            check()
            await asyncio.sleep(0)
            check()

    asyncio.run(handler())
    assert check.seen == ["handler", "nested", "nested", "nested", "handler", "handler"]
    check()


def test_other_loop_inside_a_step(check: Checks, tracer: Any) -> None:
    """The same where it is another loop, which a library runs without saying so."""

    async def other() -> None:
        with tracer.start_as_current_span("other"):
            await asyncio.sleep(0)
            check()

    def run_other() -> None:
        running = asyncio.get_running_loop()
        current = asyncio.current_task()
        assert current is not None
        asyncio.tasks._leave_task(running, current)  # a thread's, not a loop's, since CPython 3.14
        asyncio._set_running_loop(None)
        loop = asyncio.new_event_loop()
        try:
            loop.run_until_complete(other())
        finally:
            loop.close()
            asyncio._set_running_loop(running)
            asyncio.tasks._enter_task(running, current)

    async def handler() -> None:
        with tracer.start_as_current_span("handler"):
            run_other()
            check()
            await asyncio.sleep(0)
            check()

    asyncio.run(handler())
    assert check.seen == ["other", "handler", "handler"]


@pytest.mark.usefixtures("following")
def test_exceptions_of_tasks() -> None:
    """Leave no cycle behind: they are gone with the last reference, as without us."""

    class Error(Exception):
        pass

    async def fail() -> None:
        raise Error

    async def main() -> None:
        for _ in range(100):
            try:
                await asyncio.create_task(fail())
            except Error as error:
                alive.add(error)
            await asyncio.sleep(0)

    alive: weakref.WeakSet[Error] = weakref.WeakSet()
    gc.collect()
    gc.disable()
    try:
        asyncio.run(main())
        count = len(alive)
    finally:
        gc.enable()
    assert count == 0


@pytest.mark.usefixtures("following")
def test_exception_in_debug_mode(form: str, caplog: pytest.LogCaptureFixture) -> None:
    """The loop names the application's file as the place where a callback was made; no file of ours where we can help it."""

    def fail() -> None:
        raise LookupError("of the application")

    async def main() -> None:
        asyncio.get_running_loop().call_soon(fail)
        await asyncio.sleep(0)

    asyncio.run(main(), debug=True)
    (record,) = [record for record in caplog.records if record.name == "asyncio" and record.exc_info]
    assert f"created at {__file__}" in record.getMessage()
    if form == "native":
        assert "otel_profiling_configurator" not in record.getMessage()
