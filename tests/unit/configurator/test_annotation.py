"""Spans are labelled alike in C and in Python, and in C the usual ones are."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from opentelemetry.context import Context, attach, detach
from opentelemetry.sdk.trace import SpanLimits, Tracer, TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, ParentBased, Sampler
from opentelemetry.trace import INVALID_SPAN, NonRecordingSpan, SpanKind, set_span_in_context
from otel_profiling_configurator.native import native
from otel_profiling_configurator.spans import local_roots, sdk_tracers
from otel_profiling_configurator.spans.annotation import annotate_usual
from otel_profiling_configurator.spans.labels import CURRENT_SPAN, PROFILE_ID_ATTRIBUTE, SPAN_ATTRIBUTE, LabelRules, SpanLabels

from .fakes import Tags, span_context

RULES = LabelRules()
Situation = tuple[Any, Any, Any, Any, Any]
"""Tracer, span, name, context, kind."""


@pytest.fixture(autouse=True)
def annotating(following_natively: Tags) -> Iterator[None]:
    """The spans of all tracers are annotated in C."""
    assert following_natively is not None
    RULES.names["GET /"] = "GET /"
    undo = sdk_tracers.install(RULES)
    yield
    undo()


def tracer_of(sampler: Sampler = ALWAYS_ON, name: str = "test", limit: int | None = 128) -> Any:
    limits = SpanLimits(max_span_attributes=limit)
    return TracerProvider(sampler=sampler, shutdown_on_exit=False, span_limits=limits).get_tracer(name)


def started(tracer: Any, context: Any, name: Any = "GET /", kind: Any = SpanKind.INTERNAL, **arguments: Any) -> Situation:
    """What `annotate` is told of a span that nobody has annotated."""
    original: Callable[..., Any] = Tracer.start_span.__wrapped__  # type: ignore[attr-defined] # of `functools.wraps`
    return tracer, original(tracer, name, context, kind, **arguments), name, context, kind


def below(sampler: Sampler = ALWAYS_ON, kind: Any = SpanKind.INTERNAL, name: str = "test") -> Context:
    """A context whose current span has been annotated."""
    return set_span_in_context(tracer_of(sampler, name).start_span("parent", Context(), kind), Context())


def remote(**arguments: Any) -> Context:
    return set_span_in_context(NonRecordingSpan(span_context(remote=True, **arguments)), Context())


def at_limit() -> Situation:
    return started(tracer_of(limit=2), Context(), attributes={"a": 1, "b": 2})


USUAL: dict[str, Callable[[], Situation]] = {
    "root": lambda: started(tracer_of(), Context()),
    "root of the current context": lambda: started(tracer_of(), None),
    "root that serves": lambda: started(tracer_of(), Context(), kind=SpanKind.SERVER),
    "root that consumes": lambda: started(tracer_of(), Context(), kind=SpanKind.CONSUMER),
    "root that is not sampled": lambda: started(tracer_of(ALWAYS_OFF), Context()),
    "root without a limit": lambda: started(tracer_of(limit=None), Context()),
    "below a remote one": lambda: started(tracer_of(), remote(), kind=SpanKind.SERVER),
    "below a remote one, not sampled": lambda: started(tracer_of(ALWAYS_OFF), remote()),
    "child": lambda: started(tracer_of(), below()),
    "child that calls": lambda: started(tracer_of(), below(), kind=SpanKind.CLIENT),
    "child that is not sampled, as its parent": lambda: started(tracer_of(ALWAYS_OFF), below(ALWAYS_OFF)),
    "server below a server": lambda: started(tracer_of(), below(kind=SpanKind.SERVER), kind=SpanKind.SERVER),
}
UNUSUAL: dict[str, Callable[[], Situation]] = {
    "span of a command": lambda: started(tracer_of(name=local_roots.COMMANDS), Context()),
    "below a command": lambda: started(tracer_of(), below(name=local_roots.COMMANDS)),
    "server below work": lambda: started(tracer_of(), below(), kind=SpanKind.SERVER),
    "child that is not sampled": lambda: started(tracer_of(ALWAYS_OFF), below()),
    "child that is": lambda: started(tracer_of(), below(ALWAYS_OFF)),
    "limit of attributes": at_limit,
    "name that was never seen": lambda: started(tracer_of(), Context(), name="never seen"),
    "name that is none": lambda: started(tracer_of(), Context(), name=5),
    "tracer that is switched off": lambda: switched_off(remote()),
    "span that everybody shares": lambda: (tracer_of(), INVALID_SPAN, "GET /", Context(), SpanKind.INTERNAL),
}


def switched_off(context: Context) -> Situation:
    """What is returned has the identity of the parent."""
    parent: Any = context[next(iter(context))]
    return tracer_of(), NonRecordingSpan(parent.get_span_context()), "GET /", context, SpanKind.INTERNAL


def annotated(annotate: Callable[..., Any], situation: Situation) -> dict[str, Any]:
    """What a span looks like once it has been annotated, without that being left on it."""
    span = situation[1]
    before = dict(getattr(span, "attributes", {}))
    annotate(*situation)
    labels: Any = vars(span).pop(SPAN_ATTRIBUTE, None)
    looks: dict[str, Any] = {"attributes": dict(getattr(span, "attributes", {}))}
    if looks["attributes"] != before:
        del span._attributes._dict[PROFILE_ID_ATTRIBUTE]
    if labels is not None:
        assert type(labels) is SpanLabels
        fields = ("owner", "trace_flags", "values", "process", "serves", "span_context", "keeps_name", "root")
        looks.update({field: getattr(labels, field, None) for field in fields})
    return looks


def in_python(*situation: Any) -> None:
    annotate_usual(RULES, *situation)


@pytest.mark.parametrize("name", USUAL)
def test_usual(name: str) -> None:
    """What nearly all spans are is done in C, as in Python."""
    situation = USUAL[name]()
    expected = annotated(in_python, situation)
    answers = []
    assert annotated(lambda *arguments: answers.append(native.annotate(*arguments)), situation) == expected
    assert answers == [True]
    assert "owner" in expected


def test_usual_in_the_current_context() -> None:
    """Where no context is given, that of the calling thread is looked at."""
    token = attach(below())
    try:
        situation = started(tracer_of(), None)
        expected = annotated(in_python, situation)
        assert annotated(native.annotate, situation) == expected
        assert expected["owner"] != situation[1].get_span_context().span_id
    finally:
        detach(token)


@pytest.mark.parametrize("name", UNUSUAL)
def test_unusual(name: str) -> None:
    """What is not usual is left to Python, untouched."""
    situation = UNUSUAL[name]()
    untouched = {"attributes": dict(getattr(situation[1], "attributes", {}))}
    answers = []
    assert annotated(lambda *arguments: answers.append(native.annotate(*arguments)), situation) == untouched
    assert answers == [False]


BAD: dict[str, tuple[Any, Any, Any]] = {
    "no span": (None, "GET /", Context()),
    "no span context": (NonRecordingSpan(None), "GET /", Context()),  # type: ignore[arg-type] # on purpose
    "short span context": (NonRecordingSpan((1, 2)), "GET /", Context()),  # type: ignore[arg-type] # on purpose
    "texts for ids": (NonRecordingSpan(("1", "2", False, "3", None, True)), "GET /", Context()),  # type: ignore[arg-type] # on purpose
    "text for a trace": (NonRecordingSpan(("1", 2, False, 0, None, True)), "GET /", Context()),  # type: ignore[arg-type] # on purpose
    "no context": (NonRecordingSpan((1, 2, False, 0, None, True)), "GET /", "no context"),  # type: ignore[arg-type] # on purpose
    "current span that is none": (NonRecordingSpan((1, 2, False, 0, None, True)), "GET /", {CURRENT_SPAN: 5}),  # type: ignore[arg-type] # on purpose
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name: str) -> None:
    """Is left to Python; nothing is raised."""
    assert native.annotate(tracer_of(), *BAD[name], SpanKind.INTERNAL) is False
    assert native.annotate(None, *BAD[name], SpanKind.INTERNAL) is False


def test_too_few_arguments() -> None:
    with pytest.raises(TypeError, match="annotate"):
        native.annotate(tracer_of())  # type: ignore[call-arg] # on purpose
    with pytest.raises(TypeError):
        native.use_classes({})  # type: ignore[call-arg] # on purpose


@pytest.mark.parametrize("values", [None, (), ("a", "b"), ("a", "b", "c", "d"), ("a", "b", 5), ["a", "b", "c"]], ids=repr)
def test_values_that_are_none(values: Any) -> None:
    """Are refused, and those before stay."""
    labels = SpanLabels()
    with pytest.raises(AttributeError, match="values"):
        labels.values  # noqa: B018 - it is the question
    labels.values = ("a", "b", "c")
    with pytest.raises(TypeError):
        labels.values = values
    with pytest.raises(TypeError):
        del labels.values
    assert labels.values == ("a", "b", "c")


def test_profile_id_of_a_root() -> None:
    """It is set in C, where the SDK keeps its attributes, and is the id of the span."""
    span = tracer_of(ParentBased(ALWAYS_ON)).start_span("GET /", Context())
    assert span.attributes == {PROFILE_ID_ATTRIBUTE: f"{span.get_span_context().span_id:016x}"}
