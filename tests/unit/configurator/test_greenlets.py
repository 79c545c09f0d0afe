"""Labels follow the switches between greenlets, and a tracer that the application sets sees what it would see without us."""

from __future__ import annotations

import contextvars
import inspect
from collections.abc import Iterator
from typing import Any

import opentelemetry.context as context_api
import pytest
from otel_profiling_configurator.context import following as following_module
from otel_profiling_configurator.context import labelling

from .fakes import Tags, context_with, name_of, on_a_thread, root_labels, run_prepared

greenlet = pytest.importorskip("greenlet")


@pytest.fixture(autouse=True)
def tracing_as_before() -> Iterator[None]:
    """Neither a tracer nor a function of ours stays."""
    before = greenlet.settrace, greenlet.gettrace, greenlet.gettrace()
    yield
    assert (greenlet.settrace, greenlet.gettrace, greenlet.gettrace()) == before


@pytest.fixture
def tags(following: Tags) -> Iterator[Tags]:
    """Whatever tracer a test sets is gone before labels are followed no more."""
    yield following
    greenlet.settrace(None)


def attach(name: str) -> Any:
    return context_api.attach(context_with(root_labels(name, ord(name[0]))))


def take_turns(tags: Tags) -> list[str | None]:
    """Have two greenlets take turns in spans of their own, and return the span that each turn was labelled with."""
    seen: list[str | None] = []
    main = greenlet.getcurrent()

    def work(name: str) -> None:
        token = attach(name)
        for _ in range(2):
            seen.append(name_of(tags))
            main.switch()
        context_api.detach(token)

    workers = [(greenlet.greenlet(work), name) for name in "ab"]
    for turn in range(3):
        for worker, name in workers:
            worker.switch(*((name,) if turn == 0 else ()))
            seen.append(name_of(tags))
    assert all(worker.dead for worker, _ in workers)
    return seen


TURNS = ["a", None, "b", None] * 2 + [None] * 2


class Tracer:
    """An application's tracer, that counts."""

    def __init__(self) -> None:
        self.events: list[str] = []

    def __call__(self, event: str, args: tuple[Any, Any]) -> None:
        assert len(args) == 2
        self.events.append(event)


def test_turns(tags: Tags) -> None:
    """Each greenlet has its own labels, and whoever switched to it has its own again."""
    assert take_turns(tags) == TURNS
    assert tags.current() == {}


def test_exception_into_a_greenlet(tags: Tags) -> None:
    """Is followed as a switch."""
    seen: list[str | None] = []

    def work() -> None:
        token = attach("a")
        try:
            greenlet.getcurrent().parent.switch()
        except LookupError:
            seen.append(name_of(tags))
        context_api.detach(token)

    worker = greenlet.greenlet(work)
    worker.switch()
    worker.throw(LookupError)
    assert seen == ["a"]
    assert tags.current() == {}


def test_tracer_of_the_application(tags: Tags) -> None:
    """Sees every switch, is what `gettrace` returns, and what the next `settrace` returns."""
    first, second = Tracer(), Tracer()
    assert greenlet.gettrace() is None
    assert greenlet.settrace(first) is None
    assert greenlet.gettrace() is first
    assert take_turns(tags) == TURNS
    switches = len(first.events)
    assert switches >= 12
    assert set(first.events) == {"switch"}
    assert greenlet.settrace(second) is first
    assert take_turns(tags) == TURNS
    assert (len(first.events), len(second.events)) == (switches, switches)
    assert greenlet.settrace(None) is second
    assert greenlet.gettrace() is None
    assert take_turns(tags) == TURNS
    assert len(second.events) == switches


def test_tracer_that_raises(tags: Tags) -> None:
    """Is dropped, and the switch fails, as greenlet has it; whoever sets one again is followed again."""

    def fail(*_: object) -> None:
        raise ZeroDivisionError

    greenlet.settrace(fail)
    with pytest.raises(ZeroDivisionError):
        greenlet.greenlet(int).switch()
    assert greenlet.gettrace() is None
    assert greenlet.greenlet(int).switch() == 0
    greenlet.settrace(None)
    assert take_turns(tags) == TURNS


def test_what_the_functions_look_like(following: Tags) -> None:
    """Is what greenlet's own look like."""
    assert following.current() == {}
    for function in (greenlet.settrace, greenlet.gettrace):
        original = inspect.unwrap(function)
        assert original is not function
        assert (function.__name__, function.__doc__) == (original.__name__, original.__doc__)


def test_tracer_of_before(writer: Tags, form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Is called by ours meanwhile, and alone again after the undo."""
    if form == "python":
        monkeypatch.setattr(following_module, "why_missing", "left out by the test")
    tracer = Tracer()
    greenlet.settrace(tracer)
    undo, _ = following_module.install()
    labelling.agent_started(writer, aliases=True)
    assert greenlet.gettrace() is tracer
    assert take_turns(writer) == TURNS
    assert tracer.events
    undo()
    assert greenlet.gettrace() is tracer
    tracer.events.clear()
    greenlet.greenlet(int).switch()
    assert tracer.events
    greenlet.settrace(None)


def test_other_thread(following_natively: Tags) -> None:
    """Its greenlets are followed once it has labels, and a tracer of its own is called."""

    def work() -> list[str | None]:
        context_api.detach(attach("first"))
        return take_turns(following_natively)

    def traced() -> int:
        tracer = Tracer()
        greenlet.settrace(tracer)
        assert take_turns(following_natively) == TURNS
        assert greenlet.gettrace() is tracer
        return len(tracer.events)

    for _ in range(3):
        assert on_a_thread(work) == TURNS
        assert on_a_thread(traced) >= 12
    assert following_natively.left() == []


def test_other_thread_with_a_tracer_of_before(following_natively: Tags) -> None:
    """Goes on being called when its thread first has labels."""

    def work() -> int:
        tracer = Tracer()
        greenlet.settrace(tracer)
        contextvars.copy_context().run(attach, "first")
        before = len(tracer.events)
        assert take_turns(following_natively) == TURNS
        assert greenlet.gettrace() is tracer
        return len(tracer.events) - before

    assert on_a_thread(work) >= 12


def test_thread_that_undoes(writer: Tags) -> None:
    """Another thread's tracer is of no use any more, and harmless."""

    def work() -> list[str | None]:
        undo, why_python = following_module.install()
        assert not why_python
        undo()
        return take_turns(writer)

    assert on_a_thread(work) == [None] * len(TURNS)


TEARDOWN = """
import greenlet

main = greenlet.getcurrent()
other = greenlet.greenlet(lambda: main.switch("switched"))
first = greenlet.greenlet(lambda: main.switch())
first.switch()

class Last:
    def __del__(self, other=other, out=sys.stdout):
        out.write(f"result {other.switch()}\\n")
        out.flush()

greenlet._greenlet.last = Last()
"""


def test_switch_while_modules_are_torn_down(form: str) -> None:
    """Works as it does without us."""
    assert run_prepared(TEARDOWN, form) == (0, "result switched\n", "")


LATER = """
assert "greenlet" not in sys.modules
import greenlet
from tests.unit.configurator.test_greenlets import TURNS, take_turns

assert take_turns(pyroscope.tags) == TURNS
tracer = lambda *_: None
greenlet.settrace(tracer)
assert greenlet.gettrace() is tracer
deactivate()
assert greenlet.gettrace() is tracer
import inspect
assert inspect.unwrap(greenlet.settrace) is greenlet.settrace
print("done")
"""


def test_greenlet_imported_later(form: str) -> None:
    """Is followed from then on, and left as it was by the undo."""
    assert run_prepared(LATER, form) == (0, "done\n", "")
