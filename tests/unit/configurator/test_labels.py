"""The rules: which labels a span has, by scope, sampling and place in its trace."""

from __future__ import annotations

import gc
import itertools
import weakref
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.trace import SpanContext, TraceFlags
from otel_profiling_configurator.spans.labels import MAX_VALUE_BYTES, LabelRules, label_value, rename
from otel_profiling_configurator.spans.scope import Scope

from .fakes import SPAN, TRACE, expected, span_context
from .fakes import written_out as labels

CHILD, GRANDCHILD = 0xC1, 0xC2

SCOPES = list(itertools.product(Scope, Scope))

each_scope = pytest.mark.parametrize(("ids", "names"), SCOPES, ids=[f"id {i.value}, name {n.value}" for i, n in SCOPES])


def wanted(ids: Scope, names: Scope, *, own: int, root: int, own_name: str, root_name: str) -> dict[str, str]:
    """The labels of a sampled span under a sampled root, as DESIGN 3.1 has them."""
    return expected(
        TRACE,
        {Scope.NONE: None, Scope.ROOT: root, Scope.ALL: own}[ids],
        {Scope.NONE: None, Scope.ROOT: root_name, Scope.ALL: own_name}[names],
    )


def name_only(names: Scope, *, own_name: str, root_name: str) -> dict[str, str]:
    """The labels of an unsampled span."""
    return expected(None, None, {Scope.NONE: None, Scope.ROOT: root_name, Scope.ALL: own_name}[names])


@each_scope
def test_sampled_local_root(ids: Scope, names: Scope) -> None:
    """Trace id always; its own id and name where the scope is not none."""
    root = LabelRules(ids, names).of_local_root(span_context(), "GET /")
    assert labels(root) == wanted(ids, names, own=SPAN, root=SPAN, own_name="GET /", root_name="GET /")


@each_scope
def test_sampled_descendants(ids: Scope, names: Scope) -> None:
    """Children and grandchildren carry the root's value in scope root, their own in scope all."""
    rules = LabelRules(ids, names)
    root = rules.of_local_root(span_context(), "GET /")
    child = rules.of_descendant(root, span_context(CHILD), "query")
    grandchild = rules.of_descendant(child, span_context(GRANDCHILD), "row")
    assert labels(child) == wanted(ids, names, own=CHILD, root=SPAN, own_name="query", root_name="GET /")
    assert labels(grandchild) == wanted(ids, names, own=GRANDCHILD, root=SPAN, own_name="row", root_name="GET /")


@each_scope
def test_unsampled_spans(ids: Scope, names: Scope) -> None:
    """Only the name: nobody could follow an id to a span that is not exported."""
    rules = LabelRules(ids, names)
    root = rules.of_local_root(span_context(sampled=False), "GET /")
    child = rules.of_descendant(root, span_context(CHILD, sampled=False), "query")
    assert labels(root) == name_only(names, own_name="GET /", root_name="GET /")
    assert labels(child) == name_only(names, own_name="query", root_name="GET /")


@each_scope
def test_sampled_child_of_an_unsampled_root(ids: Scope, names: Scope) -> None:
    """Its trace id, and its own span id in scope all; never that of the root, which is not exported."""
    rules = LabelRules(ids, names)
    root = rules.of_local_root(span_context(sampled=False), "GET /")
    child = rules.of_descendant(root, span_context(CHILD), "query")
    own = CHILD if ids is Scope.ALL else None
    assert labels(child) == {**expected(TRACE, own, None), **name_only(names, own_name="query", root_name="GET /")}


@each_scope
def test_sampled_grandchild_under_an_unsampled_child(ids: Scope, names: Scope) -> None:
    """A span that is dropped in between takes nothing from those below it."""
    rules = LabelRules(ids, names)
    root = rules.of_local_root(span_context(), "GET /")
    child = rules.of_descendant(root, span_context(CHILD, sampled=False), "query")
    grandchild = rules.of_descendant(child, span_context(GRANDCHILD), "row")
    assert labels(child) == name_only(names, own_name="query", root_name="GET /")
    assert labels(grandchild) == wanted(ids, names, own=GRANDCHILD, root=SPAN, own_name="row", root_name="GET /")


@pytest.mark.parametrize("names", [Scope.ROOT, Scope.ALL])
@pytest.mark.parametrize("ids", Scope)
@pytest.mark.parametrize("sampled", [True, False], ids=["sampled", "unsampled"])
def test_renamed_root(ids: Scope, names: Scope, sampled: bool) -> None:
    """Its new name is its label's, and in scope root its descendants', however deep; nothing else changes."""
    rules = LabelRules(ids, names)
    root = rules.of_local_root(span_context(sampled=sampled), "GET")
    child = rules.of_descendant(root, span_context(CHILD, sampled=sampled), "query")
    grandchild = rules.of_descendant(child, span_context(GRANDCHILD, sampled=sampled), "row")
    before = [labels(root), labels(child), labels(grandchild)]
    rename(root, "GET /users")
    shared = {} if names is Scope.ALL else {"span_name": "GET /users"}
    assert [labels(root), labels(child), labels(grandchild)] == [
        {**before[0], "span_name": "GET /users"},
        {**before[1], **shared},
        {**before[2], **shared},
    ]


@pytest.mark.parametrize("ids", Scope)
def test_renamed_child_in_scope_all(ids: Scope) -> None:
    """Its own name changes, and nobody else's."""
    rules = LabelRules(ids, Scope.ALL)
    root = rules.of_local_root(span_context(), "GET /")
    child = rules.of_descendant(root, span_context(CHILD), "query")
    grandchild = rules.of_descendant(child, span_context(GRANDCHILD), "row")
    rename(child, "query users")
    assert [labels(of)["span_name"] for of in (root, child, grandchild)] == ["GET /", "query users", "row"]


def test_renamed_values() -> None:
    """The old values stay what they were, as an object of their own: whoever wrote them must remove exactly those."""
    root = LabelRules().of_local_root(span_context(), "old")
    before = root.values
    rename(root, "new")
    assert root.values is not before
    assert before[2] == "old"


def test_renamed_to_nothing() -> None:
    """An empty name is no label, and a later one is a label again."""
    root = LabelRules().of_local_root(span_context(), "GET /")
    rename(root, "")
    assert labels(root) == expected(TRACE, SPAN, None)
    rename(root, "GET /")
    assert labels(root) == expected(TRACE, SPAN, "GET /")


def test_descendants_that_are_gone() -> None:
    """A root that lives long does not keep the labels of its many short descendants alive."""
    rules = LabelRules(Scope.ALL, Scope.ROOT)
    root = rules.of_local_root(span_context(), "GET /")
    descendants = [weakref.ref(rules.of_descendant(root, span_context(span_id), "query")) for span_id in range(1, 100)]
    gc.collect()
    assert {descendant() for descendant in descendants} == {None}
    rename(root, "GET /users")


@pytest.mark.parametrize(("trace_id", "span_id"), [(1, 1), ((1 << 128) - 1, (1 << 64) - 1)], ids=["leading zeroes", "all bits"])
def test_ids(trace_id: int, span_id: int) -> None:
    """Ids are written as W3C writes them: lower case, 32 and 16 digits."""
    root = LabelRules().of_local_root(span_context(span_id, trace_id=trace_id), "x")
    assert labels(root) == {"trace_id": f"{trace_id:032x}", "span_id": f"{span_id:016x}", "span_name": "x"}


@pytest.mark.parametrize(("bits", "sampled"), [(0, False), (1, True), (2, False), (3, True), (255, True), (254, False)])
def test_trace_flags_with_other_bits(bits: int, sampled: bool) -> None:
    """Only the sampled bit counts: others, such as W3C's random one, say nothing about export."""
    root = LabelRules().of_local_root(SpanContext(TRACE, SPAN, False, TraceFlags(bits)), "x")
    assert labels(root) == (expected(TRACE, SPAN, "x") if sampled else expected(None, None, "x"))


@pytest.mark.parametrize("names", [Scope.ROOT, Scope.ALL])
@pytest.mark.parametrize("name", ["x" * 10_000, "é" * 5_000, "\N{PILE OF POO}" * 3_000, "a\udcff", 7, None, "", "é"], ids=ascii)
def test_unusual_names(names: Scope, name: Any) -> None:
    """A name of any length, type and content makes a label that can be sent, or none where it is empty."""
    rules = LabelRules(Scope.ROOT, names)
    root = rules.of_local_root(span_context(), name)
    child = rules.of_descendant(root, span_context(CHILD), name)
    for of in (root, child):
        if name == "":
            assert "span_name" not in labels(of)
        else:
            assert 0 < len(labels(of)["span_name"].encode()) <= MAX_VALUE_BYTES


@settings(derandomize=True, database=None, deadline=None)
@given(st.one_of(st.integers(), st.text(st.characters(codec=None, exclude_categories=()), max_size=MAX_VALUE_BYTES + 10)))
def test_label_value_of_anything(value: object) -> None:
    """A value is encodable and within the server's limit; one that is so already is left alone."""
    text = label_value(value)
    assert len(text.encode()) <= MAX_VALUE_BYTES
    try:
        fits = len(str(value).encode()) <= MAX_VALUE_BYTES
    except UnicodeEncodeError:
        fits = False
    if fits:
        assert text == str(value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("x" * MAX_VALUE_BYTES, "x" * MAX_VALUE_BYTES),
        ("x" * (MAX_VALUE_BYTES + 1), "x" * MAX_VALUE_BYTES),
        ("x" * (MAX_VALUE_BYTES - 1) + "é", "x" * (MAX_VALUE_BYTES - 1)),
        ("a\udcff", "a?"),
    ],
    ids=["at the limit", "beyond", "a character across the limit", "lone surrogate"],
)
def test_label_value_at_the_limit(text: str, value: str) -> None:
    """Cut between characters, so that what is left is still text."""
    assert label_value(text) == value
