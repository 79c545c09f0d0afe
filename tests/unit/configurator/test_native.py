"""The native module: what begins and ends, what it leaves as it was, and that it stays with its interpreter."""

from __future__ import annotations

import contextvars
import ctypes
import gc
import importlib.util
import inspect
import os
import sys
import time
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import opentelemetry.context as context_api
import pytest
from otel_profiling_configurator.context import following as following_module
from otel_profiling_configurator.context import labelling
from otel_profiling_configurator.native import native, why_missing
from otel_profiling_configurator.spans.labels import KEYS, NO_LABELS

from ...c_functions import METHODS, all_functions, definition_of, function_of
from .fakes import Tags, context_with, in_span, name_of, on_a_thread, root_labels, run_prepared, skip_if_pure


@pytest.fixture(autouse=True)
def module(request: pytest.FixtureRequest) -> None:
    skip_if_pure(request)
    assert not why_missing, why_missing


@pytest.fixture
def tags(following_natively: Tags) -> Tags:
    return following_natively


def do_nothing(*_: Any) -> Any:
    return ()


def arguments(**changed: Any) -> tuple[Any, ...]:
    """What `start` takes, some of it changed."""
    usual = {
        "variable": contextvars.ContextVar("variable"),
        "span_key": "span",
        "labels_attribute": "labels",
        "no_labels": NO_LABELS,
        "keys": KEYS,
        "baggage_key": None,
        "baggage_labels": do_nothing,
        "label_by_thread": do_nothing,
        "failed": do_nothing,
    }
    return tuple({**usual, **changed}.values())


class TestStart:
    """`start` and `stop`"""

    @pytest.fixture(autouse=True)
    def stopped(self) -> Iterator[None]:
        before = all_functions()
        yield
        native.stop()
        assert all_functions() == before

    @pytest.mark.parametrize(
        ("changed", "error"),
        [
            ({"variable": "variable"}, TypeError),
            ({"labels_attribute": 5}, TypeError),
            ({"no_labels": list(NO_LABELS)}, TypeError),
            ({"keys": None}, TypeError),
            ({"keys": (*KEYS, "more")}, TypeError),
            ({"no_labels": ()}, TypeError),
        ],
        ids=str,
    )
    def test_wrong_argument(self, changed: dict[str, Any], error: type[Exception]) -> None:
        """Is told, and nothing is followed or replaced."""
        before = all_functions()
        with pytest.raises(error):
            native.start(*arguments(**changed))
        assert all_functions() == before

    def test_too_few_arguments(self) -> None:
        with pytest.raises(TypeError):
            native.start(*arguments()[:-1])  # type: ignore[call-arg] # on purpose

    def test_twice(self) -> None:
        """Follows once, and says so."""
        native.start(*arguments())
        functions = all_functions()
        with pytest.raises(RuntimeError, match="followed already"):
            native.start(*arguments())
        assert all_functions() == functions

    def test_again_and_again(self) -> None:
        """Works as often as it is asked for: the interpreter has room for eight watchers, libraries for one replacement."""
        before = all_functions()
        for _ in range(30):
            native.start(*arguments())
            native.stop()
            native.stop()
            assert all_functions() == before

    def test_functions_of_types(self) -> None:
        """Are exchanged where there is no other way, and no attribute of Python's is."""
        attributes = dict(vars(contextvars.Context)), dict(vars(contextvars.ContextVar))
        before = all_functions()
        native.start(*arguments())
        now = all_functions()
        names = {method.__name__ for method, ours, original in zip(METHODS, now, before, strict=True) if ours != original}
        assert names == {"set", "reset", "create_dynamic"} | (set() if sys.version_info >= (3, 14) else {"run"})
        assert (dict(vars(contextvars.Context)), dict(vars(contextvars.ContextVar))) == attributes

    def test_references(self) -> None:
        """Nothing that it was given is kept twice."""

        class Marked:
            def __call__(self, *_: Any) -> Any:
                return ()

        def begin() -> weakref.ref[Marked]:
            marked = Marked()
            native.start(*arguments(label_by_thread=marked))
            native.stop()
            return weakref.ref(marked)

        first = begin()
        begin()
        gc.collect()
        assert first() is None


class TestOthersWhoExchange:
    """Another profiler may exchange the C function of `Context.run` or of `ContextVar.set` as we do."""

    calls: list[str]

    @pytest.fixture(params=[0, 1, 2] if sys.version_info < (3, 14) else [1, 2], ids=lambda index: METHODS[index].__name__)
    def method(self, request: pytest.FixtureRequest) -> Any:
        return METHODS[request.param]

    def exchange(self, method: Any) -> Callable[[], None]:
        """Have a function of theirs be called, that calls the one of before; return what puts that one back."""
        is_fast = method.__name__ == "run"
        function = function_of(method)
        before = function.value
        assert before is not None
        obj, pointer = ctypes.py_object, ctypes.c_void_p
        kinds = (obj, obj, pointer, ctypes.c_ssize_t, pointer) if is_fast else (obj, obj, obj)
        prototype = ctypes.PYFUNCTYPE(*kinds)
        original = prototype(before)

        def theirs(*args: Any) -> Any:
            calls.append(method.__name__)
            return original(*args)

        calls = self.calls = []
        kept = prototype(theirs)
        self.kept = [*getattr(self, "kept", ()), kept]
        function.value = ctypes.cast(kept, pointer).value

        def put_back() -> None:
            function.value = before

        return put_back

    def check(self, tags: Tags, *, followed: bool) -> None:
        context = contextvars.copy_context()
        variable: Any = context_api._RUNTIME_CONTEXT._current_context  # type: ignore[attr-defined] # as others find it

        def work() -> None:
            token = variable.set(context_with(root_labels("a")))
            assert name_of(tags) == ("a" if followed else None)
            variable.reset(token)
            variable.set(context_with(root_labels("a")))

        context.run(work)
        assert name_of(tags) is None
        assert context.run(name_of, tags) == ("a" if followed else None)
        assert name_of(tags) is None

    def begin(self, writer: Tags) -> Callable[[], None]:
        undo, why_python = following_module.install()
        assert not why_python
        labelling.agent_started(writer, aliases=False)
        return undo

    def test_before_us(self, method: Any, writer: Tags) -> None:
        """Theirs is called by ours, and is alone again afterwards."""
        put_back = self.exchange(method)
        theirs = function_of(method).value
        undo = self.begin(writer)
        self.check(writer, followed=True)
        assert self.calls
        undo()
        assert function_of(method).value == theirs
        self.calls.clear()
        self.check(writer, followed=False)
        assert self.calls
        put_back()

    def test_after_us_and_gone_first(self, method: Any, writer: Tags) -> None:
        """The last comer leaves first: everything is as it was."""
        before = function_of(method).value
        undo = self.begin(writer)
        put_back = self.exchange(method)
        self.check(writer, followed=True)
        assert self.calls
        put_back()
        self.check(writer, followed=True)
        undo()
        assert function_of(method).value == before

    def test_after_us_and_we_are_gone_first(self, method: Any, writer: Tags) -> None:
        """Theirs stays, and goes on calling ours, which follows nothing any more; we can come back and go again."""
        before = function_of(method).value
        undo = self.begin(writer)
        put_back = self.exchange(method)
        theirs = function_of(method).value
        undo()
        assert function_of(method).value == theirs
        self.check(writer, followed=False)
        assert self.calls
        undo = self.begin(writer)
        self.check(writer, followed=True)
        put_back()
        self.check(writer, followed=True)
        undo()
        assert function_of(method).value == before

    def test_we_come_back_after_both_are_gone(self, method: Any, writer: Tags) -> None:
        """In the order that can't be put right, ours stays in the chain, alone; then it is found there."""
        before = function_of(method).value
        undo = self.begin(writer)
        put_back = self.exchange(method)
        undo()
        put_back()  # to ours, as it was when they came
        self.check(writer, followed=False)
        undo = self.begin(writer)
        self.check(writer, followed=True)
        undo()
        assert function_of(method).value == before

    def test_other_flags(self, method: Any, writer: Tags) -> None:
        """A method that is called in another way is left alone, and contexts are followed in Python."""
        flags = ctypes.c_int.from_address((definition_of(method) or 0) + 2 * ctypes.sizeof(ctypes.c_void_p))
        before, functions = flags.value, all_functions()
        flags.value = before | 0x8000
        try:
            undo, why_python = following_module.install()
            assert "is not what it is in the releases of CPython that are known" in why_python
            undo()
        finally:
            flags.value = before
        assert all_functions() == functions
        assert writer.left() == []


def wait_for_counts(expected: tuple[int, int, int]) -> None:
    """Wait until threads, which can be joined a moment before, have ended for the system, too."""
    deadline = time.monotonic() + 10
    while native.counts() != expected:
        assert time.monotonic() < deadline, native.counts()
        time.sleep(0.001)


class TestThreads:
    """Records of threads"""

    def test_threads_that_come_and_go(self, tags: Tags) -> None:
        """Leave no record, no label and no memory behind."""
        counts = native.counts()
        for _ in range(100):
            on_a_thread(lambda: in_span("a").run(name_of, tags))
            on_a_thread(lambda: context_api.attach(context_with(root_labels("b"))))
        wait_for_counts(counts)
        assert tags.left() == []

    def test_many_threads_at_once(self, tags: Tags) -> None:
        """Each has a record of its own."""
        counts = native.counts()

        def nested(depth: int) -> str | None:
            return in_span("abc"[depth % 3]).run(deeper, depth)

        def deeper(depth: int) -> str | None:
            assert name_of(tags) == "abc"[depth % 3]
            if depth < 100:
                on_a_thread(lambda: nested(depth + 1))
            else:
                assert native.counts()[0] >= counts[0] + 100
            return name_of(tags)

        assert nested(0) == "a"
        wait_for_counts(counts)

    def test_label_sets_of_spans_that_are_gone(self, tags: Tags) -> None:
        """Are gone with them."""
        labels = root_labels("a")
        gone = weakref.ref(labels)
        context = contextvars.copy_context()
        context.run(context_api.attach, context_with(labels))
        assert context.run(name_of, tags) == "a"
        del labels, context
        gc.collect()
        assert gone() is None


class TestOwnTags:
    """`set_own_tags`"""

    @pytest.mark.usefixtures("tags")
    def test_of_each_thread(self) -> None:
        """They are the calling thread's, until it ends or sets others."""
        assert native.own_tags() == ()
        native.set_own_tags((("job", "nightly"),))
        assert native.own_tags() == (("job", "nightly"),)
        assert on_a_thread(native.own_tags) == ()
        on_a_thread(lambda: native.set_own_tags((("job", "other"),)))
        assert native.own_tags() == (("job", "nightly"),)
        native.set_own_tags(())
        assert native.own_tags() == ()

    @pytest.mark.usefixtures("tags")
    def test_of_a_former_agent(self) -> None:
        """Are gone with it, on every thread."""
        native.set_own_tags((("job", "nightly"),))
        labelling.agent_started(Tags(), aliases=False)
        assert native.own_tags() == ()

    @pytest.mark.parametrize("wrong", [None, [], "text", 5])
    def test_no_tuple(self, wrong: Any) -> None:
        with pytest.raises(TypeError):
            native.set_own_tags(wrong)


class TestProcess:
    """What needs a process of its own"""

    def test_second_interpreter(self) -> None:
        """Sees nothing of ours, can do without it, and its end is no end of ours."""
        inner = (
            "import contextvars, importlib\n"
            "variable = contextvars.ContextVar('variable')\n"
            "def work():\n"
            "    variable.reset(variable.set(1))\n"
            "    return 5\n"
            "assert contextvars.copy_context().run(work) == 5\n"
            "import _decimal\n"
        )
        program = f"""
import _testcapi
from tests.unit.configurator.fakes import in_span, name_of

for _ in range(3):
    assert _testcapi.run_in_subinterp({inner!r}) == 0
    assert in_span("a").run(name_of, pyroscope.tags) == "a"
print("done")
"""
        pytest.importorskip("_testcapi")
        assert run_prepared(program) == (0, "done\n", "")

    def test_module_in_a_second_interpreter(self) -> None:
        """Is refused there: what it shares is the main interpreter's."""
        inner = """
import sys
sys.path[:0] = {path!r}
from otel_profiling_configurator.native import native, why_missing
assert native is None
assert why_missing
"""
        program = f"""
import _testcapi
assert _testcapi.run_in_subinterp({inner.format(path=sys.path)!r}) == 0
print("done")
"""
        pytest.importorskip("_testcapi")
        assert run_prepared(program) == (0, "done\n", "")

    def test_library_that_is_loaded_later(self) -> None:
        """Is followed as those that were there, and left as it was by the undo."""
        pytest.importorskip("uvloop")
        program = """
import asyncio
from tests.unit.configurator.fakes import context_with, name_of, root_labels

assert "uvloop" not in sys.modules
import uvloop

class Protocol(asyncio.Protocol):
    def data_received(self, data):
        seen.append(name_of(pyroscope.tags))
        received.set_result(data)

async def main():
    global received
    received = asyncio.get_running_loop().create_future()
    server = await asyncio.get_running_loop().create_server(Protocol, "127.0.0.1", 0)
    token = context.attach(context_with(root_labels("a")))
    seen.append(name_of(pyroscope.tags))
    _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    writer.write(b"x")
    await received
    seen.append(name_of(pyroscope.tags))
    context.detach(token)
    writer.close()
    server.close()

for _ in range(2):
    seen = []
    loop = uvloop.new_event_loop()
    loop.run_until_complete(main())
    loop.close()
    print(seen)
    deactivate()
"""
        assert run_prepared(program) == (0, "['a', None, 'a']\n[None, None, None]\n", "")

    def test_what_tools_find(self) -> None:
        """Loaders of libraries that are not imported yet are the ones that there are without us."""
        names = ["trio", "uvloop", "greenlet", "asgiref.sync"]
        program = f"""
import importlib.util
for name in {names!r}:
    spec = importlib.util.find_spec(name)
    print(spec and (type(spec.loader).__name__, spec.loader.path))
"""
        here = [importlib.util.find_spec(name) for name in names]
        expected = [spec and (type(spec.loader).__name__, getattr(spec.loader, "path", None)) for spec in here]
        assert run_prepared(program) == (0, "".join(f"{each}\n" for each in expected), "")

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
    def test_forked_child(self) -> None:
        """Forgets the parent's other threads, keeps the labels of the one that forked, and follows on."""
        program = """
import os, threading, warnings
from otel_profiling_configurator.native import native
warnings.simplefilter("ignore", DeprecationWarning)  # of CPython: threads are running while it forks
from tests.unit.configurator.fakes import in_span, name_of

go, stop = threading.Barrier(6), threading.Event()

def work():
    go.wait()
    stop.wait()

others = [threading.Thread(target=in_span("b").run, args=(work,)) for _ in range(5)]
for thread in others:
    thread.start()
go.wait()
assert native.counts()[0] >= 6

def fork():
    process = os.fork()
    if process == 0:
        pyroscope.running = True
        assert native.counts()[0] == 1, native.counts()
        assert name_of(pyroscope.tags) == "a"
        assert in_span("b").run(name_of, pyroscope.tags) == "b"
        assert name_of(pyroscope.tags) == "a"
        seen = []
        thread = threading.Thread(target=in_span("b").run, args=(lambda: seen.append(name_of(pyroscope.tags)),))
        thread.start()
        thread.join()
        assert seen == ["b"]
        os._exit(7)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])

print(in_span("a").run(fork), flush=True)
stop.set()
for thread in others:
    thread.join()
"""
        assert run_prepared(program) == (0, "7\n", "")

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
    def test_other_fork_hook_that_starts_a_thread(self) -> None:
        """Begun in the child before this module hears of the fork, it has a record of its own, as the one that forked has."""
        program = """
import os, threading, traceback, warnings
from otel_profiling_configurator.native import native
from otel_profiling_configurator.process_state import process_state
warnings.simplefilter("ignore", DeprecationWarning)  # of CPython: threads are running while it forks
from tests.unit.configurator.fakes import in_span, name_of

attached, go, seen = threading.Event(), threading.Event(), []

def work():
    attached.set()
    go.wait()
    in_span("inner").run(lambda: seen.append(name_of(pyroscope.tags)))
    seen.append(name_of(pyroscope.tags))

def parents():
    attached.set()
    stop.wait()

stop = threading.Event()
idle = threading.Thread(target=in_span("idle").run, args=(parents,))  # its record is free in the child
idle.start()
attached.wait()

def fork():
    attached.clear()
    pyroscope.running = False  # as an agent is in a child
    process = os.fork()
    if process == 0:
        try:
            pyroscope.running = False  # and now the other hook comes first
            other = threading.Thread(target=in_span("other").run, args=(work,))
            other.start()
            attached.wait()
            process_state().active.after_fork_in_child()
            assert native.counts()[0] == 2, native.counts()
            assert name_of(pyroscope.tags) == "a"
            assert in_span("b").run(name_of, pyroscope.tags) == "b"
            late = threading.Thread(target=in_span("late").run, args=(lambda: seen.append(name_of(pyroscope.tags)),))
            late.start()
            late.join()
            go.set()
            other.join()
            assert seen == ["late", "inner", "other"], seen
            assert name_of(pyroscope.tags) == "a"
            os._exit(7)
        finally:
            traceback.print_exc()
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])

print(in_span("a").run(fork), flush=True)
stop.set()
idle.join()
"""
        assert run_prepared(program) == (0, "7\n", "")

    def test_signal_while_a_spans_labels_are_looked_up(self) -> None:
        """What the application's handler raises there, a time limit for example, is raised where the span was attached."""
        program = """
import os, signal

def limit(*_):
    raise TimeoutError("time limit")

signal.signal(signal.SIGALRM, limit)

class Proxy:
    def __getattr__(self, name):
        os.kill(os.getpid(), signal.SIGALRM)
        for _ in range(100):
            pass
        raise AttributeError(name)

try:
    context.attach(trace.set_span_in_context(Proxy()))
except TimeoutError:
    print("raised")
"""
        assert run_prepared(program) == (0, "raised\n", "")


def test_what_is_exchanged_looks_as_before(following_natively: Tags) -> None:
    """To `inspect`, to `help` and to who compares it."""
    assert following_natively.left() == []
    for method in METHODS[:3]:
        assert type(method).__name__ == "method_descriptor"
        assert inspect.ismethoddescriptor(method)
    assert inspect.signature(contextvars.ContextVar.set).parameters.keys() == {"self", "value"}
    assert inspect.signature(contextvars.ContextVar.reset).parameters.keys() == {"self", "token"}
