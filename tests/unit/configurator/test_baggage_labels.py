"""Baggage of the current context as labels: only the keys asked for, only inside spans, never longer than a label may be."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import opentelemetry.context as context_api
import pytest
from opentelemetry.baggage import remove_baggage, set_baggage
from opentelemetry.context import Context
from otel_profiling_configurator import guard
from otel_profiling_configurator.context import runtime_context
from otel_profiling_configurator.spans.baggage_labels import BAGGAGE, MAX_CHARACTERS, baggage_labels
from otel_profiling_configurator.threads import thread_labels
from otel_profiling_configurator.threads.thread_labels import carry

from .fakes import SPAN, TRACE, Tags, context_with, expected, on_a_thread, root_labels

NAMES = {"tenant": "tenant", "load.test": "load_test"}
SPAN_LABELS = expected(TRACE, SPAN, "GET /")


@pytest.fixture
def tags() -> Iterator[Tags]:
    tags = Tags()
    undo = thread_labels.install(tags, NAMES)
    yield tags
    undo()
    assert tags.mistakes == []
    assert tags.left() == []


def request(**baggage: object) -> Context:
    """The context of a span with some baggage; underscores stand for dots."""
    context = context_with(root_labels())
    for key, value in baggage.items():
        context = set_baggage(key.replace("_", "."), value, context)
    return context


def test_keys_asked_for(tags: Tags) -> None:
    """Become labels under their names; others stay out."""
    carry(request(tenant="acme", load_test="nightly", user="jane"))
    assert tags.current() == {**SPAN_LABELS, "tenant": "acme", "load_test": "nightly"}


def test_outside_spans(tags: Tags) -> None:
    """Work outside any span is never labelled."""
    carry(set_baggage("tenant", "acme", Context()))
    assert tags.current() == {}


def test_span_ends(tags: Tags) -> None:
    """Its baggage labels go with it."""
    carry(request(tenant="acme"))
    carry(Context())
    assert tags.current() == {}


def test_other_baggage_in_the_same_span(tags: Tags) -> None:
    """Is followed, and only what differs is written."""
    labelled = request(tenant="acme", load_test="nightly")
    carry(labelled)
    tags.calls.clear()
    carry(set_baggage("tenant", "initech", labelled))
    assert tags.current() == {**SPAN_LABELS, "tenant": "initech", "load_test": "nightly"}
    assert [(call, key) for call, _, key, _ in tags.calls] == [("remove", "tenant"), ("add", "tenant")]
    carry(remove_baggage("tenant", labelled))
    assert tags.current() == {**SPAN_LABELS, "load_test": "nightly"}


def test_attach_and_detach(tags: Tags) -> None:
    """Baggage that is attached for a while labels that while."""
    undo = runtime_context.install()
    try:
        outer = context_api.attach(request(tenant="acme"))
        inner = context_api.attach(set_baggage("tenant", "initech"))
        assert tags.current()["tenant"] == "initech"
        context_api.detach(inner)
        assert tags.current()["tenant"] == "acme"
        context_api.detach(outer)
        assert tags.current() == {}
    finally:
        undo()


def test_thread_ends(tags: Tags) -> None:
    """With it go the labels it still carried."""
    on_a_thread(lambda: carry(request(tenant="acme")))
    assert tags.left() == []


def test_writer_that_fails(tags: Tags, monkeypatch: pytest.MonkeyPatch) -> None:
    """A signal handler's exception between two labels reaches the application, and nothing stays behind."""

    def interrupted(key: str, value: str) -> None:
        if key == "load_test":
            raise KeyboardInterrupt
        tags.add_thread_tag(key, value)

    monkeypatch.setattr(thread_labels, "_add_tag", interrupted)
    monkeypatch.setattr(
        thread_labels, "_remove_tag", lambda key, value: (key, value) in tags.left() and _remove(tags, key, value)
    )
    with pytest.raises(KeyboardInterrupt):
        carry(request(tenant="acme", load_test="nightly"))
    assert tags.current() == SPAN_LABELS
    carry(Context())
    assert tags.current() == {}


def _remove(tags: Tags, key: str, value: str) -> None:
    tags.remove_thread_tag(key, value)


@pytest.mark.parametrize(
    ("value", "label"),
    [("acme", "acme"), (7, "7"), ("x" * 5000, "x" * MAX_CHARACTERS), ("\ud800", "?"), ("é" * 200, "é" * MAX_CHARACTERS)],
    ids=["text", "number", "long", "lone surrogate", "not ASCII"],
)
def test_value(value: Any, label: str) -> None:
    """Is text, encodable, and cut where it is long."""
    assert baggage_labels({"tenant": value}, NAMES) == (("tenant", label),)


@pytest.mark.parametrize("entries", [None, {}, {"tenant": ""}, {"tenant": None}, "no baggage", 5], ids=repr)
def test_nothing_to_label_with(entries: object) -> None:
    assert baggage_labels(entries, NAMES) == ()


class Hostile:
    """A value that can neither be printed nor compared."""

    def __str__(self) -> str:
        raise ZeroDivisionError

    def __eq__(self, _other: object) -> bool:
        raise ZeroDivisionError

    __hash__ = object.__hash__


def test_hostile_value(tags: Tags, monkeypatch: pytest.MonkeyPatch) -> None:
    """The application's `attach` works as ever, the span's labels are there, and what follows is labelled again."""
    monkeypatch.setattr(guard, "reraise", False)
    carry(request(tenant=Hostile()))
    assert tags.current() == SPAN_LABELS
    carry(request(tenant="acme"))
    assert tags.current() == {**SPAN_LABELS, "tenant": "acme"}
    carry(Context())


def test_key_of_the_baggage() -> None:
    """Is the one under which the API keeps it."""
    assert set_baggage("tenant", "acme", Context()).get(BAGGAGE) == {"tenant": "acme"}
