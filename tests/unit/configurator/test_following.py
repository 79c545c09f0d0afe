"""Every attach and detach is followed, on each thread, and works as it did before."""

from __future__ import annotations

import contextvars
import logging
from typing import Any

import opentelemetry.context as context_api
import pytest
from opentelemetry import trace
from opentelemetry.context import Context, attach, detach, get_current
from opentelemetry.sdk.trace import TracerProvider
from otel_profiling_configurator import guard
from otel_profiling_configurator.context import following as following_module
from otel_profiling_configurator.context import greenlets, labelling, python_form
from otel_profiling_configurator.context.labelling import refresh
from otel_profiling_configurator.native import native

from ...c_functions import all_functions
from .fakes import TRACE, Tags, WithoutVariable, context_with, expected, on_a_thread, root_labels, skip_if_pure

A = context_with(root_labels("a", 0xA))
B = context_with(root_labels("b", 0xB))
LABELS_OF_A = expected(TRACE, 0xA, "a")
LABELS_OF_B = expected(TRACE, 0xB, "b")


def test_nested_contexts(following: Tags) -> None:
    """Labels follow inwards and back out, also through `attach` and `detach` that were imported before."""
    outer = attach(A)
    assert (get_current(), following.current()) == (A, LABELS_OF_A)
    middle = attach(B)
    assert (get_current(), following.current()) == (B, LABELS_OF_B)
    empty = attach(Context())
    assert following.current() == {}
    detach(empty)
    assert (get_current(), following.current()) == (B, LABELS_OF_B)
    detach(middle)
    assert (get_current(), following.current()) == (A, LABELS_OF_A)
    detach(outer)
    assert (get_current(), following.current()) == ({}, {})


def test_context_with_the_same_span(following: Tags) -> None:
    """A baggage entry and the like change no label, so the agent is asked for nothing."""
    outer = attach(A)
    following.calls.clear()
    token = attach(context_api.set_value("key", "value"))
    assert context_api.get_value("key") == "value"
    detach(token)
    assert following.calls == []
    detach(outer)


def test_spans_of_a_tracer(following: Tags) -> None:
    """What is current is what its work is for, also of a provider that is not ours: no label then."""
    tracer = TracerProvider(shutdown_on_exit=False).get_tracer("test")
    outer = attach(A)
    with tracer.start_as_current_span("theirs") as span:
        assert trace.get_current_span() is span
        assert following.current() == {}
    assert following.current() == LABELS_OF_A
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


def test_token_used_twice(following: Tags, caplog: pytest.LogCaptureFixture) -> None:
    """The API logs it, as it does without us; nothing is raised, and what is current stays labelled."""
    outer = attach(A)
    token = attach(B)
    detach(token)
    detach(token)
    assert (get_current(), following.current()) == (A, LABELS_OF_A)
    (record,) = caplog.records
    assert (record.levelno, record.getMessage()) == (logging.ERROR, "Failed to detach context")
    detach(outer)


def test_token_of_another_context(following: Tags, caplog: pytest.LogCaptureFixture) -> None:
    """As happens in async generators: the API logs it, the current context and its labels stay."""
    token = contextvars.copy_context().run(attach, B)
    outer = attach(A)
    detach(token)
    assert (get_current(), following.current()) == (A, LABELS_OF_A)
    assert [record.getMessage() for record in caplog.records] == ["Failed to detach context"]
    detach(outer)


def test_no_token(following: Tags, caplog: pytest.LogCaptureFixture) -> None:
    """The API logs that, too."""
    outer = attach(A)
    wrong: Any = "no token"
    detach(wrong)
    assert following.current() == LABELS_OF_A
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


def test_thread_that_ends_inside_a_span(following: Tags) -> None:
    """Its labels go with it."""
    for _ in range(20):
        on_a_thread(lambda: attach(A))
        assert following.left() == []
        assert on_a_thread(following.current) == {}


def test_span_attached_by_a_destructor_at_the_end_of_a_thread(following: Tags) -> None:
    """A later thread with the same id has no labels of it."""

    class Late:
        def __del__(self) -> None:
            attach(B)

    local = labelling.by_thread.Local()

    def work() -> None:
        local.before = Late()
        detach(attach(A))
        local.after = Late()

    for _ in range(20):
        on_a_thread(work)
        assert following.left() == []
        assert on_a_thread(following.current) == {}


def test_context_that_is_current_during_start_and_undo(writer: Tags, form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is labelled at once, and no more afterwards; tokens of before are good after, and the other way round."""
    if form == "python":
        monkeypatch.setattr(following_module, "why_missing", "left out by the test")
    early = attach(A)
    undo, _ = following_module.install()
    labelling.agent_started(writer, aliases=True)
    assert writer.current() == LABELS_OF_A
    late = attach(B)
    assert writer.current() == LABELS_OF_B
    undo()
    if form == "native":
        assert writer.current() == {}
    detach(late)
    detach(early)
    assert get_current() == {}


def test_agent_that_fails(following: Tags, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Attach and detach do what they always do, one warning is enough, and later labels are right again."""
    monkeypatch.setattr(guard, "reraise", False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(following, "add_thread_tag", lambda *_: 1 / 0)
        for context in (A, B):
            token = attach(context)
            assert get_current() is context
            detach(token)
            assert get_current() == {}
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    following.mistakes.clear()  # whatever was begun is removed to the last, there or not
    token = attach(A)
    assert following.current() == LABELS_OF_A
    detach(token)


class TestForm:
    """Which form follows, and why."""

    @pytest.fixture(autouse=True)
    def labels(self, writer: Tags) -> None:
        assert writer.left() == []

    def test_native(self, request: pytest.FixtureRequest) -> None:
        """Nothing of OpenTelemetry's, asyncio's or of the interpreter's attributes is replaced."""
        skip_if_pure(request)
        before = [context_api._RUNTIME_CONTEXT, vars(context_api).copy()]
        undo, why_python = following_module.install()
        assert why_python == ""
        assert [context_api._RUNTIME_CONTEXT, vars(context_api).copy()] == before
        undo()

    def test_followed_already(self, request: pytest.FixtureRequest) -> None:
        """By an activation of somebody else's: Python says why it does it, and the other one goes on."""
        skip_if_pure(request)
        undo, _ = following_module.install()
        functions = all_functions()
        second, why_python = following_module.install()
        assert why_python == "contexts are followed already"
        second()
        assert all_functions() == functions
        undo()

    def test_another_runtime_context(self, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
        """Has no context variable that could be followed."""
        skip_if_pure(request)
        monkeypatch.setattr(context_api, "_RUNTIME_CONTEXT", WithoutVariable())
        undo, why_python = following_module.install()
        assert why_python == "another runtime context than OpenTelemetry's default one is in use"
        assert isinstance(context_api._RUNTIME_CONTEXT, python_form.ProfilingRuntimeContext)
        undo()
        assert isinstance(context_api._RUNTIME_CONTEXT, WithoutVariable)

    def test_no_module(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Is said by the interpreter's own word."""
        monkeypatch.setattr(following_module, "why_missing", "no module named _native")
        undo, why_python = following_module.install()
        assert why_python == "no module named _native"
        undo()

    def test_greenlets_that_can_not_be_followed(
        self, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Cost a warning, and the rest is followed."""
        skip_if_pure(request)
        monkeypatch.setattr(guard, "reraise", False)
        monkeypatch.setattr(greenlets, "install", lambda _tracing: 1 / 0)
        undo, why_python = following_module.install()
        assert (why_python, native.mode()) == ("", "no agent")
        assert "follow greenlets" in caplog.text
        undo()
