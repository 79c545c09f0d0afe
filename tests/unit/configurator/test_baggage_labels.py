"""Baggage of the current context as labels: only the keys asked for, only inside spans, never longer than a label may be."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.baggage import remove_baggage, set_baggage
from opentelemetry.context import Context, attach, detach
from otel_profiling_configurator import guard
from otel_profiling_configurator.context import following as following_module
from otel_profiling_configurator.context import labelling
from otel_profiling_configurator.spans.baggage_labels import BAGGAGE, MAX_CHARACTERS, baggage_labels
from otel_profiling_configurator.spans.labels import LabelRules
from otel_profiling_configurator.spans.scope import Scope

from .fakes import SPAN, TRACE, Tags, context_with, expected, on_a_thread, root_labels, span_context

NAMES = {"tenant": "tenant", "load.test": "load_test"}
SPAN_LABELS = expected(TRACE, SPAN, "GET /")


@pytest.fixture
def tags(form: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Tags]:
    """Labels follow each switch, by thread; some baggage becomes labels."""
    if form == "python":
        monkeypatch.setattr(following_module, "why_missing", "left out by the test")
    tags = Tags()
    undo_labels = labelling.install(tags, NAMES)
    undo, _ = following_module.install()
    labelling.agent_started(tags, aliases=False)
    yield tags
    undo()
    undo_labels()
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
    token = attach(request(tenant="acme", load_test="nightly", user="jane"))
    assert tags.current() == {**SPAN_LABELS, "tenant": "acme", "load_test": "nightly"}
    detach(token)
    assert tags.current() == {}


def test_outside_spans(tags: Tags) -> None:
    """Work outside any span is never labelled."""
    token = attach(set_baggage("tenant", "acme", Context()))
    assert tags.current() == {}
    detach(token)


def test_span_without_labels(tags: Tags) -> None:
    """Its baggage is labelled all the same: it is a span of ours, which no scope gives a label."""
    labels = LabelRules(Scope.NONE, Scope.NONE).of_local_root(span_context(sampled=False), "GET /")
    token = attach(set_baggage("tenant", "acme", context_with(labels)))
    assert tags.current() == {"tenant": "acme"}
    detach(token)
    assert tags.current() == {}


def test_other_baggage_in_the_same_span(tags: Tags) -> None:
    """Is followed, and only what differs is written."""
    labelled = request(tenant="acme", load_test="nightly")
    outer = attach(labelled)
    tags.calls.clear()
    inner = attach(set_baggage("tenant", "initech"))
    assert tags.current() == {**SPAN_LABELS, "tenant": "initech", "load_test": "nightly"}
    assert [(call, key) for call, _, key, _ in tags.calls] == [("remove", "tenant"), ("add", "tenant")]
    innermost = attach(remove_baggage("tenant"))
    assert tags.current() == {**SPAN_LABELS, "load_test": "nightly"}
    for token in (innermost, inner):
        detach(token)
    assert tags.current() == {**SPAN_LABELS, "tenant": "acme", "load_test": "nightly"}
    detach(outer)


def test_thread_ends(tags: Tags) -> None:
    """With it go the labels it still had."""
    on_a_thread(lambda: attach(request(tenant="acme")))
    assert tags.left() == []


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


def test_hostile_value(tags: Tags, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """The application's `attach` works as ever, the span's labels are there, and what follows is labelled again."""
    monkeypatch.setattr(guard, "reraise", False)
    outer = attach(request(tenant=Hostile()))
    assert tags.current() == SPAN_LABELS
    inner = attach(request(tenant="acme"))
    assert tags.current() == {**SPAN_LABELS, "tenant": "acme"}
    detach(inner)
    detach(outer)
    assert "read the baggage" in caplog.text


class Lazy:
    """A value whose text is found out by code that has spans, such as a query."""

    def __str__(self) -> str:
        detach(attach(request(tenant="of the query")))
        return "lazy"


def test_value_whose_text_switches_contexts(tags: Tags) -> None:
    """Is a label as any other, and read once for it."""
    token = attach(request(tenant=Lazy()))
    assert tags.current() == {**SPAN_LABELS, "tenant": "lazy"}
    detach(token)


def test_key_of_the_baggage() -> None:
    """Is the one under which the API keeps it."""
    assert set_baggage("tenant", "acme", Context()).get(BAGGAGE) == {"tenant": "acme"}
