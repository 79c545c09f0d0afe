"""Which labels the calling thread has: those of the span in its current context, and none where that has none."""

from __future__ import annotations

import threading
from typing import Any
from unittest.mock import Mock

import opentelemetry.context as context_api
import pytest
from opentelemetry import trace
from opentelemetry.context import Context, attach, detach
from opentelemetry.trace import INVALID_SPAN, NonRecordingSpan, set_span_in_context
from otel_profiling_configurator.context import labelling
from otel_profiling_configurator.spans.labels import CURRENT_SPAN, SPAN_ATTRIBUTE, LabelRules, rename
from otel_profiling_configurator.spans.scope import Scope

from .fakes import SPAN, TRACE, Tags, context_with, expected, on_a_thread, root_labels, span_context

A = context_with(root_labels("a", 0xA))
LABELS_OF_A = expected(TRACE, 0xA, "a")


class OfNobody:
    """A span that answers with anything when asked for an attribute."""

    def __getattr__(self, name: str) -> Any:
        return f"{name} of nobody"


class Failing:
    """A span that fails when it is asked for an attribute."""

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(name)


NOT_LABELLED: dict[str, Any] = {
    "empty": Context(),
    "without a span": Context({"something": "else"}),
    "invalid span": set_span_in_context(INVALID_SPAN, Context()),
    "span of others": set_span_in_context(NonRecordingSpan(span_context(remote=True)), Context()),
    "text for a span": Context({CURRENT_SPAN: "no span at all"}),
    "span without attributes": Context({CURRENT_SPAN: Failing()}),
    "span of a provider that has no labels": context_with(
        LabelRules(Scope.NONE, Scope.NONE).of_local_root(span_context(sampled=False), "b")
    ),
    "another kind of mapping": {},
}


@pytest.mark.parametrize("context", NOT_LABELLED.values(), ids=NOT_LABELLED)
def test_work_outside_our_spans(context: Any, following: Tags) -> None:
    """Is not labelled, whatever was current before; afterwards that is labelled again."""
    outer = attach(A)
    assert following.current() == LABELS_OF_A
    inner = attach(context)
    assert following.current() == {}
    detach(inner)
    assert following.current() == LABELS_OF_A
    detach(outer)


@pytest.mark.parametrize("context", [None, "text", 5, []], ids=repr)
def test_what_is_no_context(context: Any, following_natively: Tags) -> None:
    """The API takes anything, so do we: such a context has no span."""
    outer = attach(A)
    inner = attach(context)
    assert following_natively.current() == {}
    detach(inner)
    assert following_natively.current() == LABELS_OF_A
    detach(outer)


def test_span_that_answers_with_anything(following_natively: Tags) -> None:
    """Is no span of ours, and its labels are none."""
    token = attach(Context({CURRENT_SPAN: OfNobody()}))
    assert following_natively.current() == {}
    detach(token)


def test_labels_left_out_by_a_scope(following: Tags) -> None:
    """A label that the next span does not have is removed."""
    outer = attach(A)
    inner = attach(context_with(LabelRules(Scope.NONE, Scope.ROOT).of_local_root(span_context(sampled=False), "b")))
    assert following.current() == expected(None, None, "b")
    detach(inner)
    detach(outer)


def test_span_that_has_any_attribute(following: Tags) -> None:
    """A stand-in that answers every question is current like any span, and has no labels."""

    class StandIn:
        def __getattr__(self, name: str) -> Any:
            return lambda *_arguments: self

    for span in (StandIn(), Mock()):
        detach(attach(Context({CURRENT_SPAN: span})))
        assert following.current() == {}


def test_labels_that_changed(following: Tags) -> None:
    """A refresh finds the new name, and the former one is removed exactly as it was added."""
    labels = root_labels("GET")
    token = attach(context_with(labels))
    rename(labels, "GET /users")
    assert following.current() == expected(TRACE, SPAN, "GET")
    labelling.refresh()
    assert following.current() == expected(TRACE, SPAN, "GET /users")
    detach(token)
    assert following.current() == {}


def test_labels_that_changed_while_another_span_was_current(following: Tags) -> None:
    """The new name appears when the span is current again."""
    labels = root_labels("GET")
    outer = attach(context_with(labels))
    inner = attach(A)
    rename(labels, "GET /users")
    assert following.current() == LABELS_OF_A
    detach(inner)
    assert following.current() == expected(TRACE, SPAN, "GET /users")
    detach(outer)


def test_labels_that_another_thread_changed(following: Tags) -> None:
    """Nothing is changed on this thread until it switches; then the former labels are removed as they were added."""
    labels = root_labels("GET")
    token = attach(context_with(labels))
    on_a_thread(lambda: rename(labels, "GET /users"))
    assert following.current() == expected(TRACE, SPAN, "GET")
    detach(token)
    assert following.current() == {}


def test_new_agent_inside_a_span(following: Tags) -> None:
    """It begins without labels: those of the calling thread are added at once, of others when they next switch."""

    def work() -> None:
        token = attach(context_with(root_labels("b", 0xB)))
        labelled.release()
        proceed.acquire(timeout=10)
        inner = attach(context_api.get_current())
        seen.append(following.current())
        detach(inner)
        detach(token)

    seen: list[dict[str, str]] = []
    labelled, proceed = threading.Semaphore(0), threading.Semaphore(0)
    thread = threading.Thread(target=work)
    thread.start()
    assert labelled.acquire(timeout=10)
    token = attach(A)
    following.clear()
    labelling.agent_started(following, aliases=True)
    assert following.current() == LABELS_OF_A
    proceed.release()
    thread.join(10)
    assert seen == [expected(TRACE, 0xB, "b")]
    detach(token)


def test_agent_that_stops_inside_a_span(following: Tags) -> None:
    """Switches go on without harm, and the next agent gets the labels that are current when it starts."""
    token = attach(A)
    labelling.agent_stopped()
    following.clear()
    inner = attach(context_with(root_labels("b", 0xB)))
    detach(inner)
    following.clear()
    labelling.agent_started(following, aliases=True)
    assert following.current() == LABELS_OF_A
    detach(token)
    assert following.current() == {}


def test_why_labels_are_kept_by_thread(following: Tags, form: str) -> None:
    """It is said in words that fit into a sentence."""
    assert following.current() == {}
    why = labelling.why_by_thread()
    assert why == ("contexts are followed in Python" if form == "python" else "the agent is not the native one")


def test_tags_of_the_application_by_thread(following: Tags) -> None:
    """Stay as the agent has them: nothing hides them."""
    following.add_thread_tag("job", "nightly")
    labelling.tag_of_application(True, "job", "nightly")
    token = attach(A)
    assert following.current() == {**LABELS_OF_A, "job": "nightly"}
    detach(token)
    assert following.current() == {"job": "nightly"}
    following.remove_thread_tag("job", "nightly")
    labelling.tag_of_application(False, "job", "nightly")


def test_no_aliases_to_give_up(following: Tags) -> None:
    """By thread there is nothing that the agent could fail to see."""
    assert following.current() == {}
    assert labelling.give_up_aliases_if_unseen() is False


def test_spans_of_others(following: Tags) -> None:
    """Have no attribute of ours, and label nothing while they are current."""
    with trace.use_span(NonRecordingSpan(trace.INVALID_SPAN_CONTEXT)) as span:
        assert not hasattr(span, SPAN_ATTRIBUTE)
        assert following.current() == {}


def test_span_around_another(following: Tags) -> None:
    """Labels the samples with those of the span within, as it answers for that one's attributes (logfire's spans do)."""

    class Around(NonRecordingSpan):
        def __init__(self, inner: Any) -> None:
            super().__init__(inner.get_span_context())
            self.inner = inner

        def __getattr__(self, name: str) -> Any:
            return getattr(self.inner, name)

    inner = NonRecordingSpan(span_context())
    setattr(inner, SPAN_ATTRIBUTE, root_labels("inner"))
    with trace.use_span(Around(inner)):
        assert following.current()["span_name"] == "inner"
