"""Label sets and their aliases, as the agent's own library is told of them. No agent runs here."""

from __future__ import annotations

import _ctypes
import asyncio
import contextvars
import ctypes
import gc
import random
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import opentelemetry.context as context_api
import pytest
from opentelemetry.baggage import set_baggage
from opentelemetry.context import Context
from otel_profiling_configurator import guard
from otel_profiling_configurator.context import following as following_module
from otel_profiling_configurator.context import labelling
from otel_profiling_configurator.native import native, why_missing
from otel_profiling_configurator.spans.labels import KEYS, rename
from otel_profiling_configurator.threads.os_threads import get_ident

from ...c_functions import called_by
from .fakes import SPAN, TRACE, context_with, expected, in_span, on_a_thread, root_labels, skip_if_pure

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the agent's library is led there only")

ALIAS = 1 << 63
"""What every alias has and no thread's id."""

MOST = 64
"""Label sets that stay at the agent although they are current on no thread, as ``aliases.c`` has it."""


class Library:
    """The agent's library, with a function that remembers in place of the one that adds labels."""

    def __init__(self) -> None:
        self.lib = pytest.importorskip("pyroscope").lib
        self.of: dict[int, dict[str, str]] = {}
        """What it holds, by the alias or the id of the thread that it is for."""
        self.calls = 0
        self.most = 0
        self.fails_at = 0
        """How many removals from now one fails; 0 for none."""
        # By this function its library is found, so that only what is called when it is called is exchanged.
        self._called = called_by(self.lib.add_thread_tag)
        self._original = self._called.value
        prototype = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.POINTER(ctypes.py_object), ctypes.c_size_t)
        self._ours = prototype(lambda _function, arguments, _count: self.add_thread_tag(arguments[0], arguments[1]))
        self._called.value = ctypes.cast(self._ours, ctypes.c_void_p).value

    def lead(self, aliases: bool = True) -> str:
        """Have a new agent of this library be labelled; return why that is done by thread."""
        self.of.clear()
        why = native.use_agent(self.lib.add_thread_tag, self.remove_thread_tag, aliases)
        labelling.refresh()
        return why

    def put_back(self) -> None:
        self._called.value = self._original

    def add_thread_tag(self, key: str, value: str) -> bool:
        self.calls += 1
        labels = self.of.setdefault(native.writing() or get_ident(), {})
        labels[key] = value if key not in labels else f"{value} and {labels[key]}"
        self.most = max(self.most, self.count())
        return True

    def remove_thread_tag(self, key: str, value: str) -> bool:
        self.calls += 1
        self.fails_at -= 1
        if self.fails_at == 0:
            raise RuntimeError("the agent is not well")
        whose = native.writing() or get_ident()
        labels = self.of.get(whose, {})
        if labels.get(key) == value:
            del labels[key]
        if not labels:
            self.of.pop(whose, None)
        return True

    def count(self) -> int:
        return sum(map(len, self.of.values()))

    def sets(self) -> list[dict[str, str]]:
        """The label sets that have aliases."""
        assert all(whose & ALIAS for whose in self.of), self.of
        return [*self.of.values()]

    def names(self) -> set[str]:
        return {labels.get("span_name", "") for labels in self.sets()}


Begin = Callable[..., Library]


@pytest.fixture
def begin(request: pytest.FixtureRequest) -> Iterator[Begin]:
    """Have samples find label sets by aliases from now on; in the end no label is left."""
    skip_if_pure(request)
    assert not why_missing, why_missing
    library = Library()
    undos: list[Callable[[], None]] = [library.put_back]

    def begin(baggage_names: Mapping[str, str] | None = None) -> Library:
        undos.append(labelling.install(library, baggage_names or {}))
        undo, why_python = following_module.install()
        undos.append(undo)
        assert not why_python
        assert library.lead() == ""
        assert native.mode() == "aliases"
        return library

    yield begin
    while undos:
        undos.pop()()
    assert library.of == {}
    assert native.counts()[1:] == (0, 0)


@pytest.fixture
def library(begin: Begin) -> Library:
    return begin()


def span(number: int) -> Context:
    return context_with(root_labels(f"span {number}", 0xA0 + number))


def visit(*contexts: Context) -> None:
    """Make each current for a moment."""
    for context in contexts:
        context_api.detach(context_api.attach(context))


def test_label_set_is_written_once(library: Library) -> None:
    """Whoever returns to a span, on whatever thread, has nothing to write, and nothing is removed where it goes."""
    visit(span(1), span(2))
    one, other = span(1), span(2)
    visit(one, other)
    calls = library.calls
    visit(one, other, one)
    on_a_thread(lambda: visit(other, one))
    assert library.calls == calls
    assert expected(TRACE, 0xA1, "span 1") in library.sets()
    assert native.counts()[1:] == (4, 4 * len(KEYS))


def test_name_that_many_spans_have(library: Library) -> None:
    """It stays at the agent when one span's label set takes the place of another's: two labels are exchanged, not three."""
    contexts = [context_with(root_labels("GET /", 0x100 + number)) for number in range(MOST + 20)]
    visit(*contexts[:MOST])
    calls = library.calls
    visit(*contexts[MOST:])
    assert library.calls - calls == 20 * 4
    ids = {labels["span_id"] for labels in library.sets()}
    assert len(ids) == MOST
    assert ids >= {f"{0x100 + MOST + number:016x}" for number in range(20)}
    assert all(labels == expected(TRACE, int(labels["span_id"], 16), "GET /") for labels in library.sets())


def test_removal_that_fails(library: Library) -> None:
    """A label set in whose place something is left behind gets an alias of its own, and its labels only."""
    visit(*(context_with(root_labels("GET /", 0x100 + number)) for number in range(MOST)))
    library.fails_at = 1
    visit(context_with(root_labels("GET /", 0x200)))
    assert expected(TRACE, 0x200, "GET /") in library.sets()
    assert native.counts()[1] == MOST


def test_names_in_turns(library: Library) -> None:
    """Whatever takes the place of what, a label set has its own labels, and no others, while it is current and after."""
    generator = random.Random(5)  # noqa: S311 - nothing is to be kept secret
    for number in range(10 * MOST):
        name = f"GET /{generator.randrange(3)}"
        labels = root_labels(name, 0x100 + number)
        if generator.random() < 0.1:
            labels.values = ("", "", labels.values[2])
        token = context_api.attach(context_with(labels))
        usual = expected(TRACE, 0x100 + number, name) if labels.values[0] else {"span_name": name}
        assert usual in library.sets()
        assert native.counts()[2] == library.count()
        context_api.detach(token)
    assert not [labels for labels in library.sets() if " and " in "".join(labels.values())]


def test_label_that_is_missing(library: Library) -> None:
    """Is not written; a label set without any is none."""
    labels = root_labels("named")
    labels.values = ("", "", "named")
    visit(context_with(labels))
    assert library.sets() == [{"span_name": "named"}]
    labels.values = ("", "", "")
    visit(context_with(labels))
    assert library.sets() in ([{"span_name": "named"}], [])


def test_span_that_gets_another_name(library: Library) -> None:
    """Has a label set of its own under its new name."""
    labels = root_labels("GET")
    token = context_api.attach(context_with(labels))
    rename(labels, "GET /users")
    labelling.refresh()
    assert expected(TRACE, SPAN, "GET /users") in library.sets()
    context_api.detach(token)


def test_many_spans_one_after_the_other(library: Library) -> None:
    """Some stay for who comes back, the others give way."""
    for number in range(1000):
        visit(span(number))
    assert library.most <= (MOST + 1) * len(KEYS)
    assert len(library.sets()) <= MOST


def test_ten_thousand_tasks_in_flight(library: Library) -> None:
    """The agent, which walks all labels for each sample, has a few hundred at most."""

    async def request(number: int) -> None:
        token = context_api.attach(span(number))
        for _ in range(3):
            await asyncio.sleep(0)
        context_api.detach(token)

    async def main() -> None:
        await asyncio.gather(*(request(number) for number in range(10_000)))

    asyncio.run(main())
    assert 100 < library.most <= 300


def test_span_that_is_current(library: Library) -> None:
    """Never gives way, on whatever thread: a sample of it may be taken."""

    def stay(name: str) -> None:
        token = context_api.attach(context_with(root_labels(name)))
        there.release()
        leave.acquire(timeout=30)
        context_api.detach(token)

    there, leave = threading.Semaphore(0), threading.Semaphore(0)
    threads = [threading.Thread(target=stay, args=(f"stays {number}",)) for number in range(20)]
    for thread in threads:
        thread.start()
        assert there.acquire(timeout=10)
    outer = context_api.attach(context_with(root_labels("stays here")))
    for number in range(500):
        visit(span(number))
        assert sum(name.startswith("stays") for name in library.names()) == 21
    context_api.detach(outer)
    for thread in threads:
        leave.release()
        thread.join(10)


def test_span_that_is_come_back_to(library: Library) -> None:
    """Stays, whatever else comes and goes meanwhile."""
    often = context_with(root_labels("often"))
    visit(often)
    for number in range(1000):
        visit(span(number))
        if number % (MOST // 4) == 0:
            calls = library.calls
            visit(often)
            assert library.calls == calls


def test_threads_that_end_with_a_span_current(library: Library) -> None:
    """Leave nothing that would stay for ever."""
    for number in range(300):
        on_a_thread(lambda number=number: context_api.attach(span(number)))
    assert library.most <= (MOST + 3) * len(KEYS)


def test_threads_that_wait_without_a_span(library: Library) -> None:
    """Have none of the label sets that are at the agent."""

    def work(number: int) -> None:
        visit(span(number))
        there.release()
        leave.wait(30)

    there, leave = threading.Semaphore(0), threading.Event()
    threads = [threading.Thread(target=work, args=(number,)) for number in range(100)]
    for thread in threads:
        thread.start()
        assert there.acquire(timeout=10)
    assert len(library.sets()) <= MOST
    leave.set()
    for thread in threads:
        thread.join(10)


def test_spans_that_are_gone(library: Library) -> None:
    """Are held by no more than the label sets that stay at the agent."""
    for number in range(500):
        visit(span(number))
    gc.collect()
    sets = [each for each in gc.get_objects() if type(each).__name__ == "LabelSet"]
    assert len(sets) <= MOST + 1
    assert library.of


def test_new_agent(library: Library) -> None:
    """Is given the label sets that are current on any thread, and no others."""

    def stay() -> None:
        token = context_api.attach(context_with(root_labels("elsewhere")))
        there.release()
        leave.acquire(timeout=30)
        context_api.detach(token)

    there, leave = threading.Semaphore(0), threading.Semaphore(0)
    thread = threading.Thread(target=stay)
    thread.start()
    assert there.acquire(timeout=10)
    visit(span(1))
    token = context_api.attach(context_with(root_labels("here")))
    for _ in range(1000):
        assert library.lead() == ""
        assert library.names() == {"here", "elsewhere"}
    context_api.detach(token)
    leave.release()
    thread.join(10)


def test_labels_by_thread_from_now_on(library: Library) -> None:
    """All aliases are taken back, and each thread gets its labels at its next switch, to the same span, too."""
    token = context_api.attach(span(1))
    assert native.by_thread() is True
    assert library.of == {}
    labelling.refresh()
    assert library.of == {get_ident(): expected(TRACE, 0xA1, "span 1")}
    context_api.detach(token)
    assert library.of == {}
    assert native.by_thread() is False
    assert native.mode() == "by thread"


def test_agent_that_has_just_started(library: Library) -> None:
    """Can't have been seen yet, and nothing is given up for that."""
    assert library.of == {}
    assert native.is_unseen() is False
    assert labelling.give_up_aliases_if_unseen() is False


def test_agent_that_stops(library: Library) -> None:
    """Is asked for nothing any more, and no label set counts as its."""
    token = context_api.attach(span(1))
    native.leave_agent(False)
    calls = library.calls
    visit(span(2))
    assert library.calls == calls
    assert (native.mode(), native.counts()[1:]) == ("no agent", (0, 0))
    context_api.detach(token)
    library.lead()


def test_forked_child(library: Library) -> None:
    """Has no label set at its parent's agent, and takes none away there."""
    token = context_api.attach(span(1))
    calls = library.calls
    native.after_fork_in_child()
    assert library.calls == calls
    assert (native.mode(), native.counts()) == ("no agent", (1, 0, 0))
    library.lead()
    assert library.names() == {"span 1"}
    context_api.detach(token)


class TestBaggage:
    """Labels of baggage are part of a label set."""

    @pytest.fixture
    def library(self, begin: Begin) -> Library:
        return begin({"tenant": "tenant"})

    def test_labels(self, library: Library) -> None:
        """Are those of the context's own baggage, in the same span, too."""
        request = span(1)
        labels = expected(TRACE, 0xA1, "span 1")
        visit(request, set_baggage("tenant", "acme", request), set_baggage("tenant", "initech", request))
        assert library.sets() == [labels, {**labels, "tenant": "acme"}, {**labels, "tenant": "initech"}]

    def test_many_of_one_span(self, library: Library) -> None:
        """Are bounded, as spans are; what is current is labelled."""
        request = span(1)
        for number in range(500):
            token = context_api.attach(set_baggage("tenant", number, request))
            assert {labels.get("tenant") for labels in library.sets()} >= {str(number)}
            context_api.detach(token)
        assert len(library.sets()) <= MOST
        assert library.most <= (MOST + 1) * (len(KEYS) + 1)

    def test_name_of_a_span_label(self, begin: Begin) -> None:
        """Does not make a label twice: the span's own is the one."""
        library = begin({"name": "span_name"})
        visit(set_baggage("name", "of the baggage", span(1)))
        assert {labels["span_name"] for labels in library.sets()} == {"span 1"}

    def test_outside_spans(self, library: Library) -> None:
        """Baggage alone is no label."""
        visit(set_baggage("tenant", "acme", Context()))
        assert library.of == {}

    def test_hostile_value(self, library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
        """The application's `attach` works as ever, and its span is labelled."""

        class Hostile:
            def __str__(self) -> str:
                raise ZeroDivisionError

        monkeypatch.setattr(guard, "reraise", False)
        visit(set_baggage("tenant", Hostile(), span(1)))
        assert library.sets() == [expected(TRACE, 0xA1, "span 1")]

    def test_value_that_switches(self, library: Library) -> None:
        """What is asked for its text may do anything; then the context that was switched to is labelled."""

        class Switching:
            def __str__(self) -> str:
                visit(span(2))
                return "switching"

        token = context_api.attach(set_baggage("tenant", Switching(), span(1)))
        assert {labels.get("tenant") for labels in library.sets()} == {None, "switching"}
        context_api.detach(token)


class TestTagsOfTheApplication:
    """An alias hides the tags that the application gives its threads, so label sets have them, too."""

    def test_inside_a_span(self, library: Library) -> None:
        """They are on its samples at once, and no longer than on the thread."""
        labels = expected(TRACE, 0xA1, "span 1")
        token = context_api.attach(span(1))
        labelling.tag_of_application(True, "job", "nightly")
        labelling.tag_of_application(True, "shard", "7")
        assert {**labels, "job": "nightly", "shard": "7"} in library.sets()
        labelling.tag_of_application(False, "job", "nightly")
        assert {**labels, "shard": "7"} in library.sets()
        labelling.tag_of_application(False, "shard", "7")
        labelling.tag_of_application(False, "shard", "not there")
        assert native.own_tags() == ()
        context_api.detach(token)

    def test_other_threads(self, library: Library) -> None:
        """Have their own, also in the same span."""
        request = span(1)
        labelling.tag_of_application(True, "job", "nightly")
        on_a_thread(lambda: visit(request))
        assert library.sets() == [expected(TRACE, 0xA1, "span 1")]
        visit(request)
        assert {**expected(TRACE, 0xA1, "span 1"), "job": "nightly"} in library.sets()
        labelling.tag_of_application(False, "job", "nightly")

    def test_outside_spans(self, library: Library) -> None:
        """The thread has no alias, so its samples have the tags that the agent itself keeps."""
        labelling.tag_of_application(True, "job", "nightly")
        visit(Context())
        assert library.of == {}
        labelling.tag_of_application(False, "job", "nightly")

    def test_name_of_a_span_label(self, library: Library) -> None:
        """Does not make a label twice: the span's own is the one."""
        labelling.tag_of_application(True, "span_name", "of the application")
        visit(span(1))
        assert library.names() == {"span 1"}
        labelling.tag_of_application(False, "span_name", "of the application")

    def test_what_is_no_text(self, library: Library) -> None:
        """Is passed over: the agent has refused it before."""
        native.set_own_tags((("job", 5), 7, ("one",), ("shard", "7")))  # type: ignore[arg-type] # on purpose
        visit(span(1))
        assert library.sets() == [{**expected(TRACE, 0xA1, "span 1"), "shard": "7"}]
        native.set_own_tags(())


def test_agent_that_fails_to_remove(library: Library) -> None:
    """Is no failure of the application's; whatever comes next is labelled."""
    visit(*map(span, range(MOST)))
    library.fails_at = 1
    visit(span(MOST))
    assert f"span {MOST}" in library.names()
    library.of.clear()  # what could not be removed


def test_agent_that_fails_to_add(library: Library, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """One warning says so, nothing is left of that label set, and others are labelled."""
    monkeypatch.setattr(guard, "reraise", False)
    library.put_back()  # the real one, which can't take this
    native.set_own_tags((("job", "\ud800"),))
    token = context_api.attach(span(1))
    visit(span(2))
    assert len(caplog.records) == 1
    assert "label a thread" in caplog.text
    assert native.counts()[1:] == (0, 0)
    context_api.detach(token)
    native.set_own_tags(())
    visit(span(3))
    assert native.counts()[1:] == (1, len(KEYS))


@pytest.mark.parametrize(
    ("add_tag", "aliases", "why"),
    [
        (_ctypes.sizeof, True, "this release of pyroscope-io reads threads in another way"),
        (lambda *_: None, True, "the agent is not the native one"),
        (None, False, "its samples need the threads' own ids"),
    ],
    ids=["another library", "Python", "not wanted"],
)
def test_what_can_not_be_led(add_tag: Any, aliases: bool, why: str, library: Library) -> None:
    """Is left alone, and labels are kept by thread: it is said why."""
    add_tag = add_tag or library.lib.add_thread_tag
    assert native.use_agent(add_tag, library.remove_thread_tag, aliases) == why
    assert native.mode() == "by thread"
    library.of.clear()
    visit(span(1))
    assert library.of == {}


def test_contexts_that_are_entered(library: Library) -> None:
    """Whatever the way a span becomes current, it has its label set."""
    for name in "abc":
        in_span(name).run(int)
    contextvars.copy_context().run(int)
    assert library.names() == set("abc")
