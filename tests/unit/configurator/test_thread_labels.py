"""Each thread carries the labels of its current context, and every label that is written is taken off again."""

from __future__ import annotations

import copy
import gc
import importlib
import inspect
import signal
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import opentelemetry.context as context_api
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.context import Context
from opentelemetry.trace import INVALID_SPAN, NonRecordingSpan, set_span_in_context
from otel_profiling_configurator import guard, sampler
from otel_profiling_configurator.spans.labels import LabelRules
from otel_profiling_configurator.spans.scope import Scope
from otel_profiling_configurator.threads import thread_labels
from otel_profiling_configurator.threads.os_threads import get_ident

from .fakes import SPAN, TRACE, Tags, context_with, expected, on_a_thread, root_labels, skip_if_pure, span_context, written_out

NOTHING = Context()

A = context_with(root_labels("a", 0xA))
B = context_with(root_labels("b", 0xB))
LABELS_OF_A = expected(TRACE, 0xA, "a")
LABELS_OF_B = expected(TRACE, 0xB, "b")


@pytest.fixture(scope="module", params=["in C", "in Python"], autouse=True)
def form(request: pytest.FixtureRequest) -> Iterator[str]:
    """All that is promised here holds for both forms of `carry`."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "in Python":
            patch.setattr(thread_labels, "carry", thread_labels.carry_in_python)
            patch.setattr(thread_labels, "refresh", thread_labels.refresh_in_python)
            patch.setattr(thread_labels, "following", thread_labels.FollowingInPython)
        else:
            skip_if_pure(request)
            assert thread_labels._in_c is not None
        yield request.param


def carry(context: Context) -> None:
    thread_labels.carry(context)


@pytest.fixture
def in_production(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "reraise", False)


def test_span_current_and_no_longer(writer: Tags) -> None:
    """The thread carries its labels for as long as it is current."""
    carry(A)
    assert writer.current() == LABELS_OF_A
    carry(NOTHING)
    assert writer.current() == {}


def test_one_span_after_another(writer: Tags) -> None:
    """Only what differs is taken off and written: both spans are of one trace."""
    carry(A)
    writer.calls.clear()
    carry(B)
    assert writer.current() == LABELS_OF_B
    assert {(call, key) for call, _, key, _ in writer.calls} == {
        ("remove", "span_id"),
        ("remove", "span_name"),
        ("add", "span_id"),
        ("add", "span_name"),
    }
    carry(NOTHING)


def test_same_span_again(writer: Tags) -> None:
    """Nothing is written twice."""
    carry(A)
    writer.calls.clear()
    carry(A)
    assert writer.calls == []
    carry(NOTHING)


def test_labels_left_out_by_a_scope(writer: Tags) -> None:
    """A key that the next span does not have is taken off."""
    carry(A)
    carry(context_with(LabelRules(Scope.NONE, Scope.ROOT).of_local_root(span_context(sampled=False), "b")))
    assert writer.current() == expected(None, None, "b")
    carry(context_with(LabelRules(Scope.NONE, Scope.NONE).of_local_root(span_context(sampled=False), "b")))
    assert writer.current() == {}


@pytest.mark.parametrize(
    "context",
    [
        NOTHING,
        Context({"something": "else"}),
        set_span_in_context(INVALID_SPAN, NOTHING),
        set_span_in_context(NonRecordingSpan(span_context(remote=True)), NOTHING),
        Context({thread_labels.CURRENT_SPAN: "no span at all"}),
        None,
    ],
    ids=["empty", "without a span", "invalid span", "span of others", "no span", "no context"],
)
def test_work_outside_our_spans(context: Any, writer: Tags) -> None:
    """Is not labelled, and takes off what was there."""
    carry(A)
    carry(context)
    assert writer.current() == {}


def test_refresh(writer: Tags) -> None:
    """Goes by the current context of the calling thread."""
    token = context_api.attach(A)
    assert writer.current() == {}
    thread_labels.refresh()
    assert writer.current() == LABELS_OF_A
    context_api.detach(token)
    thread_labels.refresh()
    assert writer.current() == {}


def test_renamed_while_current(writer: Tags) -> None:
    """The old name is taken off exactly as it was written, and the new one is carried."""
    labels = root_labels("GET")
    context = context_with(labels)
    carry(context)
    labels.rename("GET /users")
    carry(context)
    assert writer.current() == expected(TRACE, SPAN, "GET /users")
    carry(NOTHING)


def test_renamed_while_another_is_current(writer: Tags) -> None:
    """What was written of it has been taken off already, so its new name appears only when it is current again."""
    labels = root_labels("GET")
    context = context_with(labels)
    carry(context)
    carry(A)
    labels.rename("GET /users")
    assert writer.current() == LABELS_OF_A
    carry(context)
    assert writer.current() == expected(TRACE, SPAN, "GET /users")
    carry(NOTHING)


def test_renamed_by_another_thread(writer: Tags) -> None:
    """A thread that carries the old name takes exactly that off at its next switch."""
    labels = root_labels("GET")
    carry(context_with(labels))
    on_a_thread(lambda: labels.rename("GET /users"))
    assert writer.current() == expected(TRACE, SPAN, "GET")
    carry(NOTHING)
    assert writer.current() == {}


def test_two_threads(writer: Tags) -> None:
    """Each carries its own labels, and only the thread itself writes them."""
    carry(A)

    def other() -> None:
        carry(B)
        assert writer.current() == LABELS_OF_B
        carry(NOTHING)
        assert writer.current() == {}

    on_a_thread(other)
    assert writer.current() == LABELS_OF_A
    carry(NOTHING)


def test_follower_that_comes_later(writer: Tags, monkeypatch: pytest.MonkeyPatch) -> None:
    """Is called on threads that have been labelled before, once, when their labels next change."""
    called: list[int] = []
    labelled, added = threading.Event(), threading.Event()

    def work() -> None:
        carry(context_with(root_labels()))
        labelled.set()
        added.wait(10)
        carry(Context())
        carry(context_with(root_labels()))

    monkeypatch.setattr(thread_labels, "may_change", lambda *_: True)  # a look is due each time
    thread = threading.Thread(target=work)
    thread.start()
    labelled.wait(10)
    undo = thread_labels.on_each_thread(lambda: called.append(threading.get_ident()))
    added.set()
    thread.join()
    undo()
    assert called == [threading.get_ident(), thread.ident]
    assert writer.left() == []
    on_a_thread(lambda: carry(context_with(root_labels())))
    assert len(called) == 2


def test_thread_that_ends_inside_a_span(writer: Tags) -> None:
    """Its labels are taken off, on that thread: nobody else could, and every sample would pay for them."""
    threads: list[int] = []

    def work() -> None:
        threads.append(get_ident())
        carry(A)
        carry(B)

    on_a_thread(work)
    assert writer.left() == []
    removed = {(key, value) for call, thread, key, value in writer.calls if call == "remove" and thread == threads[0]}
    assert removed >= set(LABELS_OF_B.items())


def test_thread_that_ends_inside_a_span_after_the_undo() -> None:
    """Its labels are taken off even then, as `install` says: they stay until the thread ends, no longer."""
    tags = Tags()
    undo = thread_labels.install(tags)
    carried, undone = threading.Event(), threading.Event()

    def work() -> None:
        carry(A)
        carried.set()
        undone.wait(10)

    thread = threading.Thread(target=work)
    thread.start()
    assert carried.wait(10)
    undo()
    undone.set()
    thread.join(10)
    assert tags.mistakes == []
    assert tags.left() == []


@settings(derandomize=True, database=None, deadline=None, max_examples=100)
@given(st.lists(st.tuples(st.integers(0, 4), st.one_of(st.none(), st.text(max_size=2))), max_size=20))
def test_any_sequence_of_switches_and_renames(steps: list[tuple[int, str | None]]) -> None:
    """Whatever becomes current and is renamed in whatever order, each add is matched by the exact remove."""
    tags = Tags()
    undo = thread_labels.install(tags)
    some = [
        None,
        root_labels("a", 0xA),
        root_labels("b", 0xB),
        LabelRules(Scope.ALL, Scope.ALL).of_local_root(span_context(sampled=False), "c"),
        LabelRules(Scope.NONE, Scope.NONE).of_local_root(span_context(), "d"),
    ]
    for which, name in steps:
        labels = some[which]
        if labels is not None and name is not None:
            labels.rename(name)
        carry(NOTHING if labels is None else context_with(labels))
        assert tags.current() == ({} if labels is None else written_out(labels))
    undo()
    assert tags.mistakes == []
    assert tags.left() == []


def test_new_agent(writer: Tags) -> None:
    """It begins without labels: what is current is written anew, on this thread and at the next switch of each other."""
    proceed, carried = threading.Event(), threading.Event()
    seen: list[dict[str, str]] = []

    def other() -> None:
        carry(B)
        carried.set()
        proceed.wait(10)
        carry(B)
        seen.append(writer.current())

    thread = threading.Thread(target=other)
    thread.start()
    assert carried.wait(10)
    token = context_api.attach(A)
    thread_labels.refresh()

    writer.clear()
    thread_labels.forget()
    thread_labels.refresh()
    assert writer.current() == LABELS_OF_A
    proceed.set()
    thread.join(10)
    assert seen == [LABELS_OF_B]
    context_api.detach(token)
    thread_labels.refresh()


def test_undo() -> None:
    """Takes the labels off the calling thread; afterwards nothing is written any more."""
    tags = Tags()
    undo = thread_labels.install(tags)
    carry(A)
    undo()
    assert tags.current() == {}
    carry(B)
    assert tags.current() == {}
    carry(NOTHING)
    assert tags.mistakes == []


class Broken(Tags):
    """An agent that raises when it is asked to do one thing."""

    def __init__(self, broken: str) -> None:
        super().__init__()
        self.broken = broken

    def add_thread_tag(self, key: str, value: str) -> None:
        if self.broken == "add":
            raise OSError("of the agent")
        super().add_thread_tag(key, value)

    def remove_thread_tag(self, key: str, value: str) -> None:
        if self.broken == "remove":
            raise OSError("of the agent")
        super().remove_thread_tag(key, value)


@pytest.mark.usefixtures("in_production")
@pytest.mark.parametrize("broken", ["add", "remove"])
@pytest.mark.parametrize("attached", [False, True], ids=["carry", "attach"])
def test_writer_that_raises(broken: str, attached: bool, warned: Callable[[], list[str]]) -> None:
    """The application never sees it, and one warning is enough."""
    undo = thread_labels.install(Broken(broken))
    follow: Callable[[Context], Any] = thread_labels.attaching(lambda _: None) if attached else carry  # type: ignore[arg-type, return-value]
    for context in (A, B, NOTHING, A, NOTHING):
        follow(context)
    undo()
    assert len(warned()) == 1
    assert "label a thread" in warned()[0]


@pytest.mark.usefixtures("in_production")
def test_writer_that_raises_when_a_thread_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread ends as it would have, and the application's standard error has no traceback of ours."""
    shown: list[Any] = []
    monkeypatch.setattr("sys.unraisablehook", lambda args: shown.append(args.exc_type))
    undo = thread_labels.install(Broken("remove"))
    on_a_thread(lambda: carry(A))
    undo()
    assert shown == []


def test_attaching_and_detaching(writer: Tags) -> None:
    """What is current is known to the runtime context first; tokens are the inner ones."""
    current: list[Context] = [NOTHING]

    def attach(context: Context) -> Any:
        assert writer.current() == {}
        current.append(context)
        return "token"

    def detach(token: Any) -> None:
        assert token == "token"
        current.pop()

    assert thread_labels.attaching(attach)(A) == "token"
    assert writer.current() == LABELS_OF_A
    thread_labels.detaching(detach, lambda: current[-1])("token")  # type: ignore[arg-type]
    assert writer.current() == {}


@pytest.mark.parametrize("context", [None, "nothing"])
def test_attaching_what_is_no_context(context: Any, writer: Tags) -> None:
    """The API takes anything, so do we: such a context has no span."""
    carry(A)
    thread_labels.attaching(lambda _: None)(context)  # type: ignore[arg-type, return-value]
    assert writer.current() == {}
    carry(A)
    thread_labels.detaching(lambda _: None, lambda: context)(None)  # type: ignore[arg-type]
    assert writer.current() == {}


@pytest.mark.parametrize("error", [TimeoutError, KeyboardInterrupt])
def test_exception_of_a_signal_handler(error: type[BaseException], monkeypatch: pytest.MonkeyPatch) -> None:
    """Goes to the application whatever moment it comes at, and no label stays that is none of the current span's."""
    monkeypatch.setattr(guard, "reraise", False)

    def handler(*_signal: object) -> None:
        raise error

    class Interrupted(Tags):
        def add_thread_tag(self, key: str, value: str) -> None:
            super().add_thread_tag(key, value)
            signal.raise_signal(signal.SIGUSR1)

    tags = Interrupted()
    undo = thread_labels.install(tags)
    before = signal.signal(signal.SIGUSR1, handler)
    try:
        with pytest.raises(error):
            carry(context_with(root_labels()))
    finally:
        signal.signal(signal.SIGUSR1, before)
        undo()
    assert tags.left() == []


class OfNobody:
    """A span that answers with anything when asked for an attribute."""

    def __getattr__(self, name: str) -> Any:
        return f"{name} of nobody"


@pytest.mark.parametrize("context", [Context({thread_labels.CURRENT_SPAN: OfNobody()}), {}, [], 0])
def test_what_answers_with_anything(context: Any, writer: Tags) -> None:
    """Is no span of ours, and its labels are none."""
    carry(A)
    carry(context)
    assert writer.current() == {}


@pytest.mark.usefixtures("writer")
def test_exception_out_of_a_span() -> None:
    """Goes to the application: it came up in code of the application's, or in a signal handler that was called there."""

    class Raising:
        def __getattr__(self, name: str) -> Any:
            raise TimeoutError(name)

    carry(A)
    with pytest.raises(TimeoutError):
        carry(Context({thread_labels.CURRENT_SPAN: Raising()}))
    carry(NOTHING)


def test_no_look_is_due(writer: Tags, monkeypatch: pytest.MonkeyPatch) -> None:
    """Labels change all the same, whatever the sampler does: a look is not due with each change."""
    carry(A)
    asked: list[object] = []
    monkeypatch.setattr(thread_labels, "may_change", lambda *arguments: asked.append(arguments))
    monkeypatch.setattr(thread_labels._of_thread.written, "next_look", float("inf"))
    for context, labels in ((B, LABELS_OF_B), (NOTHING, {}), (A, LABELS_OF_A), (NOTHING, {})):
        carry(context)
        assert writer.current() == labels
    assert asked == []


def test_labels_are_put_off(writer: Tags, monkeypatch: pytest.MonkeyPatch) -> None:
    """They stay as they are where a sample is being taken; the next switch makes up for it."""
    carry(A)
    answers = [False, True]
    monkeypatch.setattr(thread_labels, "may_change", lambda *_: answers.pop(0))
    monkeypatch.setattr(thread_labels._of_thread.written, "next_look", 0.0)
    carry(B)
    assert writer.current() == LABELS_OF_A
    carry(B)
    assert writer.current() == LABELS_OF_B
    monkeypatch.undo()
    carry(NOTHING)


@pytest.mark.parametrize(
    ("before", "after", "may"),
    [(NOTHING, A, "never"), (A, B, "always"), (A, NOTHING, "in a loop")],
    ids=["that come", "of another span", "that go"],
)
def test_labels_that_may_be_put_off(
    writer: Tags, monkeypatch: pytest.MonkeyPatch, before: Context, after: Context, may: str
) -> None:
    """Those of another span, and where an event loop runs, whose next step is heard of, those that go as well."""
    asked: list[bool] = []
    monkeypatch.setattr(thread_labels, "may_change", lambda _account, _now, put_off: not asked.append(put_off))
    for in_loop in (False, True, False):
        monkeypatch.setattr(thread_labels._of_thread.written, "next_look", 0.0)
        carry(before)
        if in_loop:
            thread_labels.enter_loop()
        asked.clear()
        carry(after)
        assert asked == [may == "always" or (may == "in a loop" and in_loop)]
        if in_loop:
            thread_labels.leave_loop()
        carry(NOTHING)
    assert writer.current() == {}


def test_loops_of_one_thread(writer: Tags) -> None:
    """The end of one is not the end of the other, and each has the thread carry the labels of what is current then."""
    thread_labels.enter_loop()
    thread_labels.enter_loop()
    carry(A)
    for loops in (1, 0, 0):
        thread_labels.leave_loop()
        assert thread_labels._of_thread.written.loops == loops
        assert writer.current() == {}


def test_end_of_a_loop_puts_nothing_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is run after it may take long, and its labels may differ."""
    written = thread_labels._of_thread.written
    monkeypatch.setattr(written, "pace", 0.0)
    thread_labels.leave_loop()
    assert written.pace * sampler.FORGOTTEN > sampler.OFTEN


class Contexts:
    """A runtime context whose tokens are the contexts to return to."""

    current = NOTHING

    def attach(self, context: Context) -> Any:
        before, self.current = self.current, context
        return before

    def detach(self, token: Any) -> None:
        if token == "no token":
            raise ValueError(token)
        self.current = token

    def get_current(self) -> Context:
        return self.current


def test_attach_and_detach(writer: Tags) -> None:
    """Labels follow each; arguments may be named."""
    contexts = Contexts()
    attach = thread_labels.attaching(contexts.attach)
    detach = thread_labels.detaching(contexts.detach, contexts.get_current)
    outer = attach(A)
    inner = attach(context=B)  # type: ignore[call-arg] # the API's functions have names for theirs
    assert (inner, writer.current()) == (A, LABELS_OF_B)
    assert detach(token=inner) is None  # type: ignore[func-returns-value, call-arg] # as above
    assert writer.current() == LABELS_OF_A
    detach(outer)
    assert writer.current() == {}
    for function in (attach, detach):
        assert copy.deepcopy(function) is function
        assert weakref.ref(function)() is function
        for wrong in (lambda f: f(), lambda f: f(NOTHING, NOTHING), lambda f: f(another=NOTHING)):
            with pytest.raises(TypeError):
                wrong(function)
    assert (contexts.current, writer.current()) == (NOTHING, {})


def test_attach_and_detach_that_fail(writer: Tags) -> None:
    """Labels stay, and the failure goes to the caller, or to whom it is to be reported to."""
    contexts, reported = Contexts(), list[Any]()
    attach, get_current = thread_labels.attaching(contexts.attach), contexts.get_current
    outer = attach(A)

    def fail(_: Any) -> Any:
        raise KeyboardInterrupt

    for function in (
        thread_labels.attaching(fail),
        thread_labels.detaching(fail, get_current),
        thread_labels.detaching(fail, get_current, reported.append),
    ):
        with pytest.raises(KeyboardInterrupt):
            function(NOTHING)  # type: ignore[operator] # the one takes a context, the other a token
    wrong: Any = "no token"
    with pytest.raises(ValueError, match="no token"):
        thread_labels.detaching(contexts.detach, get_current)(wrong)
    thread_labels.detaching(contexts.detach, get_current, reported.append)(wrong)
    assert reported == ["no token"]
    assert writer.current() == LABELS_OF_A
    thread_labels.detaching(contexts.detach, get_current)(outer)


def test_callback(writer: Tags) -> None:
    """It is called with the labels of the context that is current then, and looks like what it calls."""

    def callback(*args: Any) -> Any:
        return (*args, writer.current())

    followed = thread_labels.following(callback)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(context_api, "get_current", lambda: A)
        assert followed(1, 2) == (1, 2, LABELS_OF_A)
        patch.setattr(context_api, "get_current", lambda: NOTHING)
        assert followed() == ({},)
    assert inspect.unwrap(followed) is callback
    assert repr(followed) == repr(callback)
    failing = thread_labels.following(int)
    with pytest.raises(ValueError, match="no number"):
        failing("no number")


@pytest.mark.parametrize("make", ["following", "attaching"])
def test_what_holds_itself(make: str) -> None:
    """A callback that is part of a cycle goes with it."""

    class Owner:
        def callback(self, *_: Any) -> None: ...

    owner: Any = Owner()
    owner.followed = getattr(thread_labels, make)(owner.callback)
    gone = weakref.ref(owner)
    del owner
    gc.collect()
    assert gone() is None


def test_switches_do_not_pile_anything_up(writer: Tags) -> None:
    """Whatever is switched between is held as often after it as before."""
    contexts = Contexts()
    held = [A, B, root_labels("c"), thread_labels._of_thread, thread_labels.NO_LABELS, thread_labels.CURRENT_SPAN, contexts]
    third = context_with(held[2])
    for _ in range(2):  # once for what is made at first
        before = [sys.getrefcount(one) for one in held]
        for context in (A, B, third, NOTHING, {}, None) * 100:
            carry(context)
            token = thread_labels.attaching(contexts.attach)(context)
            thread_labels.detaching(contexts.detach, contexts.get_current, carry)(token)
            thread_labels.following(carry)(context)
            failing = thread_labels.detaching(contexts.detach, contexts.get_current, str)
            failing("no token")  # type: ignore[arg-type] # as said
            del token, failing
        carry(NOTHING)
        after = [sys.getrefcount(one) for one in held]
        writer.calls.clear()
    assert after == before


def test_module_in_c_without_its_names(form: str) -> None:
    """It says what is missing, and goes on with what it has."""
    if form == "in Python":
        pytest.skip("it takes what it is given")
    in_c = importlib.import_module("otel_profiling_configurator._thread_labels")
    names, context_names = vars(thread_labels), vars(context_api)
    with pytest.raises(TypeError):
        in_c.use("names", "names")
    with pytest.raises(TypeError):
        in_c.use(names)
    with pytest.raises(KeyError, match="carry_in_python"):
        in_c.use({}, context_names)
    with pytest.raises(AttributeError):
        in_c.use({**names, "_Written": object}, context_names)
    in_c.use(names, context_names)


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="later Pythons keep such a module from other interpreters themselves")
def test_second_interpreter(form: str) -> None:
    """Has labels of its own, in Python: what the form in C knows stays the main interpreter's."""
    if form == "in Python":
        pytest.skip("nothing is shared")
    imports = "from otel_profiling_configurator.threads import thread_labels; from opentelemetry.context import Context"
    in_second = f"{imports}; assert thread_labels._in_c is None; thread_labels.carry(Context())"
    program = f"""
import _xxsubinterpreters
{imports}
second = _xxsubinterpreters.create()
_xxsubinterpreters.run_string(second, {in_second!r})
_xxsubinterpreters.destroy(second)
assert thread_labels.carry is not thread_labels.carry_in_python
thread_labels.carry(Context())
"""
    subprocess.run([sys.executable, "-c", program], check=True)
