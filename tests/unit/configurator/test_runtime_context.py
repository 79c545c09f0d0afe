"""Every attach and detach is noticed, and works as it did before."""

from __future__ import annotations

import contextvars
import logging
from typing import Any

import opentelemetry.context as context_api
import pytest
from opentelemetry import trace
from opentelemetry.context import Context, attach, detach, get_current
from opentelemetry.context.context import _RuntimeContext
from opentelemetry.sdk.trace import TracerProvider, sampling
from opentelemetry.trace import INVALID_SPAN, NonRecordingSpan, Span, propagation, set_span_in_context
from otel_profiling_configurator.context import runtime_context
from otel_profiling_configurator.context.runtime_context import ProfilingRuntimeContext
from otel_profiling_configurator.threads.thread_labels import CURRENT_SPAN, refresh

from .fakes import TRACE, Tags, context_with, expected, on_a_thread, root_labels, span_context

A = context_with(root_labels("a", 0xA))
B = context_with(root_labels("b", 0xB))
LABELS_OF_A = expected(TRACE, 0xA, "a")
LABELS_OF_B = expected(TRACE, 0xB, "b")


class Stack(_RuntimeContext):
    """A runtime context of an application's own, that has no context variable."""

    def __init__(self) -> None:
        self.contexts = [Context()]

    def attach(self, context: Context) -> Any:
        self.contexts.append(context)
        return len(self.contexts)

    def get_current(self) -> Context:
        return self.contexts[-1]

    def detach(self, token: Any) -> None:
        if token != len(self.contexts):
            raise ValueError("not the innermost")
        self.contexts.pop()


@pytest.fixture(params=["contextvars", "custom"])
def inner(request: pytest.FixtureRequest, writer: Tags) -> Any:
    """The runtime context that was there: OpenTelemetry's default or one of the application's own."""
    assert writer.current() == {}
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "custom":
            patch.setattr(context_api, "_RUNTIME_CONTEXT", Stack())
        before = context_api._RUNTIME_CONTEXT
        undo = runtime_context.install()
        yield before
        undo()
        assert context_api._RUNTIME_CONTEXT is before


@pytest.mark.usefixtures("inner")
def test_nested_contexts(writer: Tags) -> None:
    """Labels follow inwards and back out, also through `attach` and `detach` that were imported before."""
    outer = attach(A)
    assert (get_current(), writer.current()) == (A, LABELS_OF_A)
    middle = attach(B)
    assert (get_current(), writer.current()) == (B, LABELS_OF_B)
    empty = attach(Context())
    assert writer.current() == {}
    detach(empty)
    assert (get_current(), writer.current()) == (B, LABELS_OF_B)
    detach(middle)
    assert (get_current(), writer.current()) == (A, LABELS_OF_A)
    detach(outer)
    assert (get_current(), writer.current()) == ({}, {})


@pytest.mark.usefixtures("inner")
def test_context_with_the_same_span(writer: Tags) -> None:
    """A baggage entry and the like change no label, so nothing is written."""
    outer = attach(A)
    writer.calls.clear()
    token = attach(context_api.set_value("key", "value"))
    assert context_api.get_value("key") == "value"
    detach(token)
    assert writer.calls == []
    detach(outer)


def test_detach_out_of_order(following: Tags, caplog: pytest.LogCaptureFixture) -> None:
    """What is current then is what it would be without us, and the labels agree with it."""

    def out_of_order() -> None:
        first = attach(A)
        second = attach(B)
        detach(first)
        assert (get_current(), following.current()) == ({}, {})
        detach(second)
        assert (get_current(), following.current()) == (A, LABELS_OF_A)

    contextvars.copy_context().run(out_of_order)
    refresh()
    assert following.current() == {}
    assert caplog.records == []


def test_token_used_twice(inner: Any, writer: Tags, caplog: pytest.LogCaptureFixture) -> None:
    """The API logs it, as it does without us; nothing is raised, and what is current stays labelled."""
    assert inner
    outer = attach(A)
    token = attach(B)
    detach(token)
    detach(token)
    assert (get_current(), writer.current()) == (A, LABELS_OF_A)
    (record,) = caplog.records
    assert (record.levelno, record.getMessage()) == (logging.ERROR, "Failed to detach context")
    detach(outer)


def test_token_of_another_context(following: Tags, caplog: pytest.LogCaptureFixture) -> None:
    """As happens in async generators: the API logs it, the current context and its labels stay."""
    token = contextvars.copy_context().run(attach, B)
    assert following.current() == LABELS_OF_B  # what ran in the copy was on this thread
    outer = attach(A)
    detach(token)
    assert (get_current(), following.current()) == (A, LABELS_OF_A)
    assert [record.getMessage() for record in caplog.records] == ["Failed to detach context"]
    detach(outer)


def test_other_thread(following: Tags) -> None:
    """It has a context and labels of its own."""
    token = attach(A)

    def other() -> dict[str, str]:
        assert get_current() == {}
        token = attach(B)
        seen = following.current()
        detach(token)
        assert following.current() == {}
        return seen

    assert on_a_thread(other) == LABELS_OF_B
    assert following.current() == LABELS_OF_A
    detach(token)


def test_context_in_use_during_install_and_undo(writer: Tags) -> None:
    """Tokens from before can be detached after, and the other way round: the variable is the same one."""
    early = attach(A)
    undo = runtime_context.install()
    late = attach(B)
    assert writer.current() == LABELS_OF_B
    undo()
    detach(late)
    detach(early)
    assert get_current() == {}


def test_replacement_of_the_variable(inner: Any) -> None:
    """Who looks for the default's context variable finds it; a custom runtime context has none."""
    ours = context_api._RUNTIME_CONTEXT
    assert isinstance(ours, ProfilingRuntimeContext)
    assert isinstance(ours, _RuntimeContext)
    assert ours.inner is inner
    assert getattr(ours, "_current_context", None) is getattr(inner, "_current_context", None)


def test_undo() -> None:
    """The very objects that were there are there again."""

    def installed() -> list[Any]:
        api = context_api
        functions = [api.get_current, api.set_value, api.attach, api.detach, trace.get_current_span, sampling.get_current_span]
        return [api._RUNTIME_CONTEXT, *functions]

    before = installed()
    undo = runtime_context.install()
    assert all(ours is not original for ours, original in zip(installed(), before, strict=True))
    undo()
    assert all(now is original for now, original in zip(installed(), before, strict=True))


def test_undo_after_somebody_else() -> None:
    """Who replaced it after us stays."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(context_api, "_RUNTIME_CONTEXT", context_api._RUNTIME_CONTEXT)
        undo = runtime_context.install()
        theirs = context_api._RUNTIME_CONTEXT = Stack()
        undo()
        assert context_api._RUNTIME_CONTEXT is theirs


@pytest.mark.parametrize(
    "span",
    [
        INVALID_SPAN,
        NonRecordingSpan(span_context()),
        TracerProvider(shutdown_on_exit=False).get_tracer("t").start_span("s"),
        None,
    ],
    ids=["invalid", "not recording", "of the SDK", "none"],
)
def test_current_span(following: Tags, span: Span | None) -> None:
    """The shorter `get_current_span` finds what the API's own finds: in a context that is given, and in the current one."""
    original = propagation.get_current_span
    assert trace.get_current_span is not original
    context = Context() if span is None else set_span_in_context(span, Context())
    assert trace.get_current_span(context) is original(context)
    token = attach(context)
    assert trace.get_current_span() is original() is (span or INVALID_SPAN)
    detach(token)
    assert following.current() == {}
    assert sampling.get_current_span is trace.get_current_span


def test_current_span_that_is_none(following: Tags) -> None:
    """Anything else under the span's key is no span."""
    assert trace.get_current_span(Context({CURRENT_SPAN: "text"})) is INVALID_SPAN
    assert following.current() == {}
