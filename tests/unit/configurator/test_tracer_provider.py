"""Spans of a wrapped provider: annotated with the right labels, and otherwise as if nobody were there."""

from __future__ import annotations

import asyncio
import functools
import gc
import inspect
import signal
import sys
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import opentelemetry.context as context_api
import pytest
import wrapt
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Span as SdkSpan
from opentelemetry.sdk.trace import SpanLimits, TracerProvider
from opentelemetry.sdk.trace import Tracer as SdkTracer
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, Decision, ParentBased, Sampler, SamplingResult
from opentelemetry.trace import (
    INVALID_SPAN,
    NonRecordingSpan,
    NoOpTracer,
    NoOpTracerProvider,
    SpanKind,
    get_current_span,
    set_span_in_context,
    use_span,
)
from otel_profiling_configurator import ProfilingTracerProvider, Scope, guard
from otel_profiling_configurator.spans import sdk_tracers, tracer_provider
from otel_profiling_configurator.spans.labels import CURRENT_SPAN, NOT_OURS, PROFILE_ID_ATTRIBUTE, SPAN_ATTRIBUTE, LabelRules

from .fakes import SPAN, TRACE, Caching, Tags, expected, pairs_of, span_context

PROFILE_ID = "pyroscope.profile.id"

pytestmark = pytest.mark.usefixtures("renames_are_unfollowed")


class ByName(Sampler):
    """Decides by the beginning of the span's name."""

    def should_sample(self, parent_context: Any, trace_id: int, name: str, *_args: Any, **_kwargs: Any) -> SamplingResult:
        del parent_context, trace_id
        decisions = {"drop": Decision.DROP, "record": Decision.RECORD_ONLY}
        return SamplingResult(decisions.get(name.split(maxsplit=1)[0], Decision.RECORD_AND_SAMPLE))

    def get_description(self) -> str:
        return "by name"


def sdk(sampler: Sampler = ALWAYS_ON, **arguments: Any) -> TracerProvider:
    return TracerProvider(sampler=sampler, resource=Resource({"service.name": "shop"}), shutdown_on_exit=False, **arguments)


def tracer_of(provider: Any = None, ids: Scope = Scope.ROOT, names: Scope = Scope.ROOT) -> Any:
    return ProfilingTracerProvider(provider or sdk(), ids, names).get_tracer("test")


def original_start_span() -> Any:
    """The SDK's own, whether or not its class is seen to."""
    return inspect.unwrap(vars(SdkTracer)["start_span"])


def ids(span: Any) -> tuple[int, int]:
    context = span.get_span_context()
    return context.trace_id, context.span_id


def labels_as_root(span: Any, name: str) -> dict[str, str]:
    return expected(*ids(span), name)


class Conforming(trace.Span):
    """A span of another SDK, with nothing in common with OpenTelemetry's but the API."""

    _context = {"an attribute": "of its own"}  # noqa: RUF012 - read only

    def __init__(self) -> None:
        self.attributes: dict[str, Any] = {}

    def get_span_context(self) -> Any:
        return span_context()

    def is_recording(self) -> bool:
        return True

    def set_attribute(self, key: str, value: Any) -> None:
        self.attributes[key] = value

    def _nothing(self, *_args: Any, **_kwargs: Any) -> None:
        pass

    end = set_attributes = add_event = update_name = set_status = record_exception = _nothing  # type: ignore[assignment]


class Slotted:
    """A tracer that has no instance dictionary, as one made in C would be."""

    __slots__ = ("_tracer",)

    def __init__(self, tracer: Any) -> None:
        object.__setattr__(self, "_tracer", tracer)

    def start_span(self, *args: Any, **kwargs: Any) -> Any:
        return self._tracer.start_span(*args, **kwargs)

    def start_as_current_span(self, *args: Any, **kwargs: Any) -> Any:
        return self._tracer.start_as_current_span(*args, **kwargs)

    def extra(self) -> str:
        return "of the tracer"


class ReadOnly(Slotted):
    """A tracer that has a dictionary, and lets nobody write it."""

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(name)

    __dict__: dict[str, Any]


class Providing:
    """A provider that conforms to the API without deriving from it, and makes tracers of a kind."""

    def __init__(self, kind: Callable[[Any], Any]) -> None:
        self.inner = sdk()
        self.kind = kind

    def get_tracer(self, *args: Any, **kwargs: Any) -> Any:
        return self.kind(self.inner.get_tracer(*args, **kwargs))


PROVIDERS: dict[str, Callable[[], Any]] = {
    "sdk": sdk,
    "wrapped by others": lambda: wrapt.ObjectProxy(sdk()),
    "wrapped by us already": lambda: ProfilingTracerProvider(sdk()),
    "tracers wrapped by others": lambda: Providing(wrapt.ObjectProxy),
    "tracers with slots": lambda: Providing(Slotted),
    "tracers that are read-only": lambda: Providing(ReadOnly),
}


@pytest.fixture(params=["by its provider", "by its class"], autouse=True)
def annotated(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """What is promised of the spans of a wrapped provider holds, too, while spans of all of the SDK's tracers are annotated."""
    undo = sdk_tracers.install(LabelRules()) if request.param == "by its class" else lambda: None
    yield request.param
    monkeypatch.undo()  # what a test put over ours
    undo()


@pytest.fixture(params=PROVIDERS)
def tracer(request: pytest.FixtureRequest) -> Any:
    """A tracer of each kind of provider that may be wrapped."""
    return tracer_of(PROVIDERS[request.param]())


# What a wrapped provider looks like


def test_provider_seen_by_others(sdk_provider: TracerProvider, exporter: InMemorySpanExporter) -> None:
    """It is an SDK provider to whoever asks, with everything that those have."""
    provider: Any = ProfilingTracerProvider(sdk_provider)
    assert isinstance(provider, TracerProvider)
    assert isinstance(provider, trace.TracerProvider)
    assert isinstance(provider, ProfilingTracerProvider)
    assert provider.resource is sdk_provider.resource
    assert provider.sampler is sdk_provider.sampler
    other = InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(other))
    provider.get_tracer("test").start_span("span").end()
    assert provider.force_flush()
    assert [span.name for span in exporter.get_finished_spans()] == ["span"]
    assert [span.name for span in other.get_finished_spans()] == ["span"]
    provider.sampler = ALWAYS_OFF
    assert sdk_provider.sampler is ALWAYS_OFF
    provider.shutdown()
    provider.get_tracer("test").start_span("late").end()
    assert [span.name for span in other.get_finished_spans()] == ["span"]


def test_tracer_and_spans_seen_by_others() -> None:
    """They are the inner provider's own objects."""
    inner = sdk().get_tracer("test")
    tracer = tracer_of(Caching(inner))
    assert tracer is inner
    assert type(tracer.start_span("span")) is type(sdk().get_tracer("test").start_span("span"))
    assert inspect.signature(tracer.start_span) == inspect.signature(sdk().get_tracer("test").start_span)


def test_arguments_of_get_tracer() -> None:
    """They are passed on as they are given."""
    provider = ProfilingTracerProvider(sdk())
    tracer: Any = provider.get_tracer("name", "1.0", schema_url="https://schema", attributes={"a": "b"})
    scope = tracer.start_span("span").instrumentation_scope
    assert (scope.name, scope.version, scope.schema_url, dict(scope.attributes)) == (
        "name",
        "1.0",
        "https://schema",
        {"a": "b"},
    )


def test_tracer_asked_for_twice() -> None:
    """A provider may hand out the same tracer again: it is not annotated twice over."""
    provider: Any = ProfilingTracerProvider(Caching(sdk().get_tracer("test")))
    start_span = provider.get_tracer("test").start_span
    assert provider.get_tracer("test").start_span == start_span


@pytest.mark.skipif(sys.version_info < (3, 11), reason="every object of Python 3.10 has a dictionary")
def test_no_object_gets_a_dictionary() -> None:
    """One whose dictionary was asked for is slower ever after, and each span asks its tracer and its sampler a dozen times."""
    sampler = ParentBased(ALWAYS_ON)
    provider = ProfilingTracerProvider(sdk(sampler))
    tracer = provider.get_tracer("test")
    tracer.start_span("GET /").end()
    tracer_provider.install(provider)()
    for asked, attribute in ((tracer, "sampler"), (sampler, "_root")):
        assert not any(type(held) is dict and attribute in held for held in gc.get_referents(asked))


def test_proxied_tracer_seen_by_others() -> None:
    """A tracer that can't be shadowed is proxied, and everything else of it is still there."""
    tracer = tracer_of(Providing(Slotted))
    assert isinstance(tracer, Slotted)
    assert tracer.extra() == "of the tracer"


# Which labels spans have


def test_span_without_a_parent(tracer: Any) -> None:
    """It is a local root, and has its own labels."""
    span = tracer.start_span("GET /")
    assert pairs_of(span) == labels_as_root(span, "GET /")


def test_span_with_a_remote_parent(tracer: Any) -> None:
    """It is the first one of its trace in this process: a local root."""
    parent = set_span_in_context(NonRecordingSpan(span_context(remote=True)), Context())
    span = tracer.start_span("GET /", context=parent)
    assert ids(span)[0] == TRACE
    assert ids(span)[1] != SPAN
    assert pairs_of(span) == labels_as_root(span, "GET /")
    assert pairs_of(get_current_span(parent)) is None


def test_span_whose_parent_is_of_another_sdk(tracer: Any) -> None:
    """We did not see its parent start, so it is a local root, in the trace of the parent."""
    parent: Any = Conforming()
    with use_span(parent):
        span = tracer.start_span("GET /")
    assert ids(span)[0] == ids(parent)[0]
    assert pairs_of(span) == labels_as_root(span, "GET /")
    assert pairs_of(parent) is None


def test_children(tracer: Any) -> None:
    """Children of the current span and of a context's, at any depth, carry their local root's labels."""
    root = tracer.start_span("GET /")
    child = tracer.start_span("query", set_span_in_context(root, Context()))
    with use_span(child):
        grandchild = tracer.start_span("row")
    assert len({ids(span) for span in (root, child, grandchild)}) == 3
    assert pairs_of(child) == pairs_of(grandchild) == labels_as_root(root, "GET /")


def test_explicit_context(tracer: Any) -> None:
    """A span's parent is the one of the context it is given, whatever is current."""
    with use_span(tracer.start_span("current")):
        root = tracer.start_span("GET /", context=Context())
        child = tracer.start_span("query", context=set_span_in_context(root, Context()))
    assert pairs_of(root) == labels_as_root(root, "GET /")
    assert pairs_of(child) == pairs_of(root)


def test_child_of_an_ended_span(tracer: Any) -> None:
    """It belongs to the same request still."""
    root = tracer.start_span("GET /")
    root.end()
    with use_span(root):
        assert pairs_of(tracer.start_span("late")) == labels_as_root(root, "GET /")


def test_span_under_an_invalid_one(tracer: Any) -> None:
    """That is no parent: a local root."""
    span = tracer.start_span("GET /", set_span_in_context(INVALID_SPAN, Context()))
    assert pairs_of(span) == labels_as_root(span, "GET /")


@pytest.mark.parametrize("names", Scope)
@pytest.mark.parametrize("span_ids", Scope)
def test_scopes(span_ids: Scope, names: Scope) -> None:
    """Each scope labels root and child as documented."""
    tracer = tracer_of(None, span_ids, names)
    root = tracer.start_span("GET /")
    with use_span(root):
        child = tracer.start_span("query")
    trace_id, root_id = ids(root)
    id_of = {Scope.NONE: (None, None), Scope.ROOT: (root_id, root_id), Scope.ALL: (root_id, ids(child)[1])}[span_ids]
    name_of = {Scope.NONE: (None, None), Scope.ROOT: ("GET /", "GET /"), Scope.ALL: ("GET /", "query")}[names]
    assert pairs_of(root) == expected(trace_id, id_of[0], name_of[0])
    assert pairs_of(child) == expected(trace_id, id_of[1], name_of[1])


def test_unsampled_spans() -> None:
    """They have their name: at 1 % sampling every sample still has its endpoint."""
    tracer = tracer_of(sdk(ALWAYS_OFF))
    root = tracer.start_span("GET /")
    with use_span(root):
        child = tracer.start_span("query")
    assert not root.is_recording()
    assert pairs_of(root) == pairs_of(child) == {"span_name": "GET /"}


def test_span_that_is_recorded_and_not_exported() -> None:
    """It has no ids: they would lead nowhere."""
    root = tracer_of(sdk(ByName())).start_span("record this")
    assert root.is_recording()
    assert pairs_of(root) == {"span_name": "record this"}
    assert PROFILE_ID not in root.attributes


@pytest.mark.parametrize("names", [Scope.ROOT, Scope.ALL])
def test_spans_dropped_within_a_sampled_trace(names: Scope) -> None:
    """They have the name only; their sampled children have the root's ids again."""
    tracer = tracer_of(sdk(ByName()), names=names)
    root = tracer.start_span("GET /")
    with use_span(root):
        dropped = tracer.start_span("drop this")
        with use_span(dropped):
            kept = tracer.start_span("query")
    assert pairs_of(dropped) == {"span_name": "GET /" if names is Scope.ROOT else "drop this"}
    assert pairs_of(kept) == expected(*ids(root), "GET /" if names is Scope.ROOT else "query")


def test_dropped_by_the_remote_parents_decision() -> None:
    """A parent-based sampler's decision counts like any."""
    parent = set_span_in_context(NonRecordingSpan(span_context(sampled=False, remote=True)), Context())
    assert pairs_of(tracer_of(sdk(ParentBased(ALWAYS_ON))).start_span("GET /", parent)) == {"span_name": "GET /"}


@pytest.mark.parametrize("name", ["", "x" * 5000, "a\udcff", 7, None], ids=ascii)
def test_unusual_name(name: Any) -> None:
    """The span is started as it would have been, and labelled with what can be sent."""
    span = tracer_of().start_span(name)
    assert span.name == name
    label = (pairs_of(span) or {}).get("span_name", "")
    assert len(label.encode()) <= 1024
    assert bool(label) is (name != "")


# Spans that are none


@pytest.fixture(params=["no-op provider", "no-op tracer", "disabled provider", "disabled tracer"])
def silent(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A tracer that makes no spans."""
    if request.param == "no-op provider":
        return tracer_of(NoOpTracerProvider())
    if request.param == "no-op tracer":
        return tracer_of(Providing(lambda _: NoOpTracer()))
    if request.param == "disabled tracer":
        tracer = tracer_of(Providing(lambda tracer: tracer))
        disabled = getattr(tracer, "_tracer_config", None)
        if disabled is None:
            pytest.skip("this SDK has no tracers to be disabled one by one")
        monkeypatch.setattr(tracer, "_tracer_config", type(disabled)(is_enabled=False))
        return tracer
    with monkeypatch.context() as patch:
        patch.setenv("OTEL_SDK_DISABLED", "true")
        return tracer_of(sdk())


def test_no_span_without_a_parent(silent: Any) -> None:
    """Nothing is annotated, least of all the invalid span that everybody shares."""
    span = silent.start_span("nothing")
    assert not span.get_span_context().is_valid
    assert pairs_of(span) is None
    assert pairs_of(INVALID_SPAN) is None


@pytest.mark.parametrize("names", [Scope.ROOT, Scope.ALL])
@pytest.mark.parametrize("span_ids", [Scope.ROOT, Scope.ALL])
@pytest.mark.parametrize("sampler", [ALWAYS_ON, ALWAYS_OFF], ids=["sampled", "unsampled"])
def test_no_span_under_a_span_of_ours(silent: Any, span_ids: Scope, names: Scope, sampler: Sampler) -> None:
    """The parent's work goes on: its labels stay, and it keeps them."""
    root = tracer_of(sdk(sampler), span_ids, names).start_span("GET /")
    labels = pairs_of(root)
    with use_span(root), use_span(silent.start_span("nothing")):
        assert pairs_of(get_current_span()) in (labels, None)
    assert pairs_of(root) == labels
    assert labels


def test_no_span_under_a_remote_parent(silent: Any) -> None:
    """There is no span of this process: an id would lead to a profile of another one."""
    parent = NonRecordingSpan(span_context(remote=True))
    span = silent.start_span("nothing", set_span_in_context(parent, Context()))
    assert pairs_of(span) is None
    assert pairs_of(parent) is None


def test_span_in_no_span_under_a_remote_parent(silent: Any) -> None:
    """It is the first one of its trace in this process: a local root, as if the silent tracer were not there."""
    nothing = silent.start_span("nothing", set_span_in_context(NonRecordingSpan(span_context(remote=True)), Context()))
    with use_span(nothing):
        span = tracer_of().start_span("GET /")
    assert pairs_of(span) == labels_as_root(span, "GET /")
    assert span.attributes == {PROFILE_ID: f"{ids(span)[1]:016x}"}


def test_no_span_under_a_span_of_another_sdk(silent: Any) -> None:
    """We did not see that span start, so the work inside it is not labelled."""
    parent: Any = Conforming()
    span = silent.start_span("nothing", set_span_in_context(parent, Context()))
    assert pairs_of(span) is None
    assert pairs_of(parent) is None
    assert PROFILE_ID not in parent.attributes


def test_renamed_no_span_under_a_span_of_ours(silent: Any) -> None:
    """There is nothing to rename: the span that is exported keeps its name, so its label does."""
    tracer_of(sdk(ALWAYS_OFF)).start_span("one of the same class, so that its renames are followed")
    root = tracer_of().start_span("GET /")
    with use_span(root), use_span(silent.start_span("nothing")):
        if get_current_span().get_span_context().is_valid and get_current_span() is not root:
            get_current_span().update_name("renamed")
    assert root.name == "GET /"
    assert pairs_of(root) == labels_as_root(root, "GET /")


# Renamed spans


@pytest.mark.parametrize("sampler", [ALWAYS_ON, ALWAYS_OFF], ids=["sampled", "unsampled"])
@pytest.mark.parametrize("argument", ["positional", "keyword"])
def test_renamed_local_root(sampler: Sampler, argument: str) -> None:
    """A route that is resolved late names all the request's work, also that of spans which were started before."""
    tracer = tracer_of(sdk(sampler))
    root = tracer.start_span("GET")
    with use_span(root):
        child = tracer.start_span("query")
        if argument == "positional":
            root.update_name("GET /users")
        else:
            root.update_name(name="GET /users")
        later = tracer.start_span("render")
    assert [(pairs_of(span) or {})["span_name"] for span in (root, child, later)] == ["GET /users"] * 3
    assert getattr(root, "name", "GET /users") == "GET /users"


def test_renamed_recorded_span() -> None:
    """One that is recorded and not exported is renamed like others."""
    root = tracer_of(sdk(ByName())).start_span("record this")
    root.update_name("record that")
    assert pairs_of(root) == {"span_name": "record that"}


def test_renamed_after_its_end() -> None:
    """The SDK keeps the name that was exported, so its label stays too."""
    root = tracer_of().start_span("GET /")
    root.end()
    root.update_name("late")
    assert root.name == "GET /"
    assert pairs_of(root) == labels_as_root(root, "GET /")


def test_renamed_descendant() -> None:
    """Its name is nobody's label in scope root."""
    tracer = tracer_of()
    root = tracer.start_span("GET /")
    with use_span(root):
        child = tracer.start_span("query")
        child.update_name("query users")
    assert child.name == "query users"
    assert pairs_of(root) == pairs_of(child) == labels_as_root(root, "GET /")


def test_renamed_descendant_with_its_own_name() -> None:
    """In scope all it is its own label, and only that."""
    tracer = tracer_of(None, Scope.ROOT, Scope.ALL)
    root = tracer.start_span("GET /")
    with use_span(root):
        child = tracer.start_span("query")
        child.update_name("query users")
    assert pairs_of(child) == expected(*ids(root), "query users")
    assert pairs_of(root) == labels_as_root(root, "GET /")


def test_renamed_descendant_with_its_own_id_only() -> None:
    """A name scope of root is the root's name, also where each span has its own id."""
    tracer = tracer_of(None, Scope.ALL, Scope.ROOT)
    root = tracer.start_span("GET /")
    with use_span(root):
        child = tracer.start_span("query")
        child.update_name("query users")
    assert pairs_of(child) == labels_as_root(child, "GET /")


def test_renamed_unsampled_descendant_of_a_sampled_root() -> None:
    """It has labels of its own because it has no ids; the name is still the root's."""
    tracer = tracer_of(sdk(ByName()))
    root = tracer.start_span("GET /")
    with use_span(root):
        dropped = tracer.start_span("drop this")
        dropped.update_name("drop that")
    assert pairs_of(dropped) == {"span_name": "GET /"}


@pytest.mark.parametrize("sampler", [ALWAYS_ON, ALWAYS_OFF], ids=["sampled", "unsampled"])
def test_renamed_without_name_labels(sampler: Sampler) -> None:
    """In name scope none there is no name label, before and after."""
    root = tracer_of(sdk(sampler), Scope.ROOT, Scope.NONE).start_span("GET")
    before = pairs_of(root)
    root.update_name("GET /users")
    assert "span_name" not in (before or {})
    assert pairs_of(root) == before


def test_renamed_while_current(following: Tags) -> None:
    """The samples of this thread have the new name at once."""
    tracer = tracer_of()
    with tracer.start_as_current_span("GET") as root, tracer.start_as_current_span("query"):
        assert following.current() == labels_as_root(root, "GET")
        root.update_name("GET /users")
        assert following.current() == labels_as_root(root, "GET /users")
    assert following.current() == {}


def test_renamed_while_not_current(following: Tags) -> None:
    """A span that was started and never made current labels nothing, whatever it is called."""
    tracer = tracer_of()
    span = tracer.start_span("aside")
    assert following.current() == {}
    span.update_name("still aside")
    assert following.current() == {}
    with tracer.start_as_current_span("GET /") as root:
        span.update_name("aside again")
        assert following.current() == labels_as_root(root, "GET /")


def test_span_without_labels_renamed() -> None:
    """It is of a class that we watch, and none of our business."""
    theirs: Any = sdk().get_tracer("test").start_span("theirs")
    vars(theirs).pop(SPAN_ATTRIBUTE, None)
    tracer_of().start_span("ours")
    theirs.update_name("renamed")
    assert theirs.name == "renamed"
    assert pairs_of(theirs) is None


def test_renamed_where_there_is_no_span(following: Tags) -> None:
    """The invalid span that everybody shares has no name: applications rename "the current span" without looking."""
    tracer_of(sdk(ALWAYS_OFF)).start_span("one of the same class, so that its renames are followed")
    theirs = Conforming()
    try:
        get_current_span().update_name("renamed")
        with use_span(theirs):
            assert following.current() == {}
        with use_span(INVALID_SPAN):
            assert following.current() == {}
    finally:
        get_current_span().update_name("")


def test_renamed_without_a_name() -> None:
    """The application sees the exception that it would see without us."""
    root = tracer_of().start_span("GET /")
    with pytest.raises(TypeError, match="name"):
        root.update_name()
    assert pairs_of(root) == labels_as_root(root, "GET /")


class OfAVendor(NonRecordingSpan):
    """A span class whose `update_name` is its own, and says something."""

    __slots__ = ()

    def update_name(self, name: str) -> str:  # type: ignore[override]
        return f"renamed to {name}"


class Inheriting(OfAVendor):
    """One that has it from its base."""


class Making:
    """A provider whose spans are of a class."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self.make = make

    def get_tracer(self, *_args: Any, **_kwargs: Any) -> Any:
        tracer: Any = NoOpTracer()
        tracer.start_span = lambda *_args, **_kwargs: self.make()
        return tracer


@pytest.mark.parametrize("span_class", [OfAVendor, Inheriting])
def test_renamed_span_of_a_vendors_class(span_class: type[NonRecordingSpan]) -> None:
    """Followed like the SDK's, where the class has it; the result passes through."""
    before = vars(OfAVendor)["update_name"]
    span: Any = tracer_of(Making(lambda: span_class(span_context()))).start_span("GET")
    assert span.update_name("GET /users") == "renamed to GET /users"
    assert pairs_of(span) == expected(TRACE, SPAN, "GET /users")
    tracer_provider.install(NoOpTracerProvider())()
    assert vars(OfAVendor)["update_name"] is before
    assert "update_name" not in vars(Inheriting)


def test_spans_of_another_sdk() -> None:
    """Any provider that conforms to the API will do: only what the API has is relied upon."""
    span = tracer_of(Making(Conforming)).start_span("GET /")
    assert pairs_of(span) == expected(TRACE, SPAN, "GET /")
    assert span.attributes == {PROFILE_ID: f"{SPAN:016x}"}


def test_spans_that_take_no_attributes(monkeypatch: pytest.MonkeyPatch, warned: Callable[[], list[str]]) -> None:
    """Spans with slots can't be annotated: the application has them as they are, one warning says so."""
    monkeypatch.setattr(guard, "reraise", False)

    class Full:
        __slots__ = ()

        def get_span_context(self) -> Any:
            return span_context()

    tracer = tracer_of(Making(Full))
    assert [type(tracer.start_span("GET /")) for _ in range(3)] == [Full] * 3
    assert len(warned()) == 1


# The attribute


@pytest.mark.parametrize("span_ids", Scope)
def test_profile_id_of_exported_spans(span_ids: Scope, sdk_provider: TracerProvider, exporter: InMemorySpanExporter) -> None:
    """On exactly the spans that own a span id label, with its value."""
    tracer = tracer_of(sdk_provider, span_ids)
    for _ in range(2):
        with tracer.start_as_current_span("GET /"), tracer.start_as_current_span("query"), tracer.start_as_current_span("row"):
            pass
    spans = exporter.get_finished_spans()
    owners = {Scope.NONE: set(), Scope.ROOT: {"GET /"}, Scope.ALL: {"GET /", "query", "row"}}[span_ids]
    assert len(spans) == 6
    for span in spans:
        assert span.context is not None
        own = f"{span.context.span_id:016x}" if span.name in owners else None
        assert (span.attributes or {}).get(PROFILE_ID) == own


def test_profile_id_beside_other_attributes() -> None:
    """They are all there, and the application's limit of attributes holds as in the SDK."""
    span = tracer_of().start_span("GET /", attributes={"a": 1})
    assert span.attributes == {"a": 1, PROFILE_ID: f"{ids(span)[1]:016x}"}
    limits = SpanLimits(max_span_attributes=2)
    span = tracer_of(sdk(span_limits=limits)).start_span("GET /", attributes={"a": 1, "b": 2})
    assert span.attributes == {"b": 2, PROFILE_ID: f"{ids(span)[1]:016x}"}
    assert span.dropped_attributes == 1


# Started as current


def test_current_span_in_a_with_statement(tracer: Any, following: Tags) -> None:
    """Its samples are labelled for as long as it is current."""
    with tracer.start_as_current_span("GET /") as span:
        assert get_current_span() is span
        assert following.current() == labels_as_root(span, "GET /")
        with tracer.start_as_current_span("query") as child:
            assert following.current() == labels_as_root(span, "GET /")
            assert child.parent.span_id == ids(span)[1]
    assert following.current() == {}
    assert span.end_time is not None


def test_arguments_of_a_current_span(tracer: Any) -> None:
    """They are the API's, by position or by name."""
    link = trace.Link(span_context())
    with tracer.start_as_current_span("GET /", Context(), SpanKind.SERVER, {"a": 1}, [link], 7, end_on_exit=False) as span:
        pass
    assert (span.kind, span.attributes["a"], span.start_time, span.end_time) == (SpanKind.SERVER, 1, 7, None)
    assert [each.context for each in span.links] == [link.context]


def test_exception_inside_a_current_span(tracer: Any, following: Tags) -> None:
    """It reaches the application, is recorded, and the labels are taken off."""
    with pytest.raises(LookupError, match="theirs"), tracer.start_as_current_span("GET /") as span:
        raise LookupError("theirs")
    assert [event.name for event in span.events] == ["exception"]
    assert span.status.status_code is trace.StatusCode.ERROR
    assert following.current() == {}


def test_decorated_function(tracer: Any, following: Tags) -> None:
    """Each call is a span of its own."""

    @tracer.start_as_current_span("work")
    def work(n: int) -> tuple[int, dict[str, str]]:
        assert following.current() == labels_as_root(get_current_span(), "work")
        return n, following.current()

    first, second = work(1), work(2)
    assert (first[0], second[0]) == (1, 2)
    assert first[1]["span_id"] != second[1]["span_id"]
    assert following.current() == {}


def test_decorated_async_function(tracer: Any, following: Tags) -> None:
    """The span lasts until the coroutine has ended, not until it has been made."""

    @tracer.start_as_current_span("work")
    async def work() -> dict[str, str]:
        await asyncio.sleep(0)
        assert get_current_span().is_recording()
        return following.current()

    async def twice() -> list[dict[str, str]]:
        return [await work(), await work()]

    assert inspect.iscoroutinefunction(work)
    first, second = asyncio.run(twice())
    assert (first["span_name"], second["span_name"]) == ("work", "work")
    assert first["span_id"] != second["span_id"]
    assert following.current() == {}


# Failures


def test_inner_tracer_that_raises() -> None:
    """The application sees its provider's exception, once."""
    raised: list[int] = []

    def fail() -> Any:
        raised.append(1)
        raise LookupError("theirs")

    with pytest.raises(LookupError, match="theirs"):
        tracer_of(Making(fail)).start_span("GET /")
    assert raised == [1]


def test_our_failure(monkeypatch: pytest.MonkeyPatch, warned: Callable[[], list[str]]) -> None:
    """The application has its span, without labels; one warning."""
    monkeypatch.setattr(guard, "reraise", False)
    monkeypatch.setattr(tracer_provider.LabelRules, "of_local_root", lambda *_: 1 / 0)
    tracer = tracer_of()
    spans = [tracer.start_span("PUT /") for _ in range(3)]
    assert [span.name for span in spans] == ["PUT /"] * 3
    assert [pairs_of(span) for span in spans] == [None] * 3
    assert len(warned()) == 1


def test_our_failure_in_a_rename(monkeypatch: pytest.MonkeyPatch, warned: Callable[[], list[str]]) -> None:
    """The span is renamed; one warning."""
    monkeypatch.setattr(guard, "reraise", False)
    root = tracer_of().start_span("GET")
    setattr(root, SPAN_ATTRIBUTE, object())
    root.update_name("GET /users")
    root.update_name("GET /users/1")
    assert root.name == "GET /users/1"
    assert len(warned()) == 1


def test_arguments_of_a_future_api() -> None:
    """What we do not know is passed on, to the tracer that does."""

    class Newer:
        def get_tracer(self, *_args: Any, **_kwargs: Any) -> Any:
            tracer: Any = NoOpTracer()
            tracer.start_span = lambda *_args, **kwargs: NonRecordingSpan(span_context(kwargs["new"]))
            return tracer

    assert ids(tracer_of(Newer()).start_span("GET /", new=7)) == (TRACE, 7)


def starting(make_span: Callable[[], Any], monkeypatch: pytest.MonkeyPatch) -> Any:
    """A tracer of the SDK's class that starts such spans."""

    @functools.wraps(original_start_span())
    def start_span(*_: Any, **__: Any) -> Any:
        return make_span()

    monkeypatch.setattr(SdkTracer, "start_span", start_span)
    return tracer_of()


@pytest.mark.parametrize("error", [TimeoutError, AttributeError, KeyboardInterrupt])
def test_exception_of_a_signal_handler(error: type[BaseException], monkeypatch: pytest.MonkeyPatch) -> None:
    """It goes to the application, also where it comes while a span is annotated."""
    monkeypatch.setattr(guard, "reraise", False)

    def handler(*_signal: object) -> None:
        raise error

    def interrupted() -> Context:
        signal.raise_signal(signal.SIGUSR1)
        return Context()

    tracer = starting(lambda: NonRecordingSpan(span_context()), monkeypatch)
    before = signal.signal(signal.SIGUSR1, handler)
    try:
        monkeypatch.setattr(context_api, "get_current", interrupted)
        with pytest.raises(error):
            tracer.start_span("GET /")
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_failure_of_others_meanwhile(monkeypatch: pytest.MonkeyPatch, warned: Callable[[], list[str]]) -> None:
    """A context that can't be had costs the labels and one warning."""
    monkeypatch.setattr(guard, "reraise", False)
    tracer = starting(lambda: NonRecordingSpan(span_context()), monkeypatch)
    monkeypatch.setattr(context_api, "get_current", lambda: 1 / 0)
    assert [pairs_of(tracer.start_span("GET /")) for _ in range(2)] == [None] * 2
    assert len(warned()) == 1


@pytest.mark.parametrize(
    "strange",
    [(1 << 128, SPAN), (TRACE, 1 << 64), (-1, SPAN), (TRACE, -1), ("trace", SPAN), (TRACE, "span"), (None, None)],
)
def test_ids_that_are_none(strange: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch, warned: Callable[[], list[str]]) -> None:
    """The application has its span, without labels; one warning."""
    monkeypatch.setattr(guard, "reraise", False)

    class Strange(NonRecordingSpan):
        _context = (*strange, False, trace.TraceFlags(1), trace.TraceState(), True)

        def __init__(self) -> None: ...

        def get_span_context(self) -> Any:
            return self._context

    tracer = starting(Strange, monkeypatch)
    assert [pairs_of(tracer.start_span("GET /")) for _ in range(2)] == [None] * 2
    assert len(warned()) == 1


def test_contexts_that_are_none(tracer: Any) -> None:
    """Whatever the provider makes of them, its span is started, or its exception seen."""
    inner = sdk().get_tracer("test")
    for context in ("context", {CURRENT_SPAN: None}, {CURRENT_SPAN: "span"}, 7):
        try:
            inner.start_span("GET /", context)
        except Exception as expected_error:  # noqa: BLE001 - whatever it is
            with pytest.raises(type(expected_error)):
                tracer.start_span("GET /", context)
        else:
            assert ids(tracer.start_span("GET /", context))


def test_spans_do_not_pile_anything_up() -> None:
    """Whatever is asked with each span is held as often after many as before."""
    tracer = tracer_of(sdk(ParentBased(ALWAYS_ON)))
    names = ["GET /", "query"]
    remote = set_span_in_context(NonRecordingSpan(span_context(remote=True)), Context())
    held: list[Any] = [*names, remote, tracer, tracer.start_span, NOT_OURS, PROFILE_ID_ATTRIBUTE]
    for _ in range(2):  # once for what is made at first
        before = [sys.getrefcount(one) for one in held]
        for _ in range(200):
            with tracer.start_as_current_span(names[0]), tracer.start_as_current_span(names[1]):
                pass
            tracer.start_span(names[0], context=remote).end()
            with pytest.raises(TypeError):
                tracer.start_span(names[0], unknown=1)
        gc.collect()
        after = [sys.getrefcount(one) for one in held]
    assert after == before


def test_start_span_seen_by_others() -> None:
    """It is a method of the tracer, with the name, the arguments and the documentation that the SDK's has."""
    tracer = tracer_of()
    start_span, of_sdk = tracer.start_span, original_start_span()
    assert inspect.ismethod(start_span)
    assert start_span.__self__ is tracer
    for fact in ("__name__", "__qualname__", "__module__", "__doc__", "__defaults__", "__kwdefaults__"):
        assert getattr(start_span, fact) == getattr(of_sdk, fact)
    assert inspect.signature(start_span.__func__) == inspect.signature(of_sdk)
    assert inspect.getsource(start_span) == inspect.getsource(of_sdk)


def test_tracer_with_another_name_for_its_argument() -> None:
    """Its spans are labelled, if by another name."""

    class Renaming(SdkTracer):
        def start_span(self, span_name: str) -> Any:  # type: ignore[override] # as said
            return super().start_span(span_name)

    inner: Any = sdk().get_tracer("test")
    inner.__class__ = Renaming
    span = tracer_of(Caching(inner)).start_span(span_name="GET /")
    assert pairs_of(span) == labels_as_root(span, "GET /")


def test_tracer_that_nobody_holds() -> None:
    """It goes, and with it what it starts spans with."""
    tracer = ProfilingTracerProvider(sdk()).get_tracer("test")
    tracer.start_span("GET /").end()
    gone = weakref.ref(tracer)
    del tracer
    gc.collect()
    assert gone() is None


# The global provider


@pytest.fixture
def unset(no_global_provider: pytest.MonkeyPatch) -> Iterator[None]:
    before = trace._set_tracer_provider
    assert no_global_provider
    yield
    assert trace._set_tracer_provider is before


@pytest.mark.usefixtures("unset")
def test_installed() -> None:
    """Everybody gets it, also through tracers that were asked for before; the undo puts the former one back."""
    early = trace.get_tracer("early")
    inner = sdk()
    trace.set_tracer_provider(inner)
    provider = ProfilingTracerProvider(inner)
    undo = tracer_provider.install(provider)  # type: ignore[arg-type]
    assert trace.get_tracer_provider() is provider
    span = early.start_span("GET /")
    assert pairs_of(span) == labels_as_root(span, "GET /")
    renaming = vars(SdkSpan)["update_name"]
    assert renaming is not inspect.unwrap(renaming)
    undo()
    assert trace.get_tracer_provider() is inner
    assert vars(SdkSpan)["update_name"] is inspect.unwrap(renaming)


@pytest.mark.usefixtures("unset")
def test_undo_after_somebody_else() -> None:
    """Who replaced the provider after us stays."""
    undo = tracer_provider.install(ProfilingTracerProvider(sdk()))  # type: ignore[arg-type]
    theirs = trace._TRACER_PROVIDER = sdk()
    undo()
    assert trace.get_tracer_provider() is theirs


@pytest.mark.usefixtures("unset")
def test_waiting_for_a_provider() -> None:
    """Told once, after it has been set, also through a `set_tracer_provider` that was imported before."""
    told: list[tuple[Any, Any]] = []
    set_tracer_provider = trace.set_tracer_provider
    tracer_provider.when_set(lambda provider: told.append((provider, trace.get_tracer_provider())))
    assert told == []
    provider = sdk()
    set_tracer_provider(provider)
    set_tracer_provider(sdk())
    assert told == [(provider, provider)]


@pytest.mark.usefixtures("unset")
def test_waiting_no_longer() -> None:
    """Nobody is told any more."""
    told: list[Any] = []
    tracer_provider.when_set(told.append)()
    trace.set_tracer_provider(sdk())
    assert told == []


@pytest.mark.usefixtures("unset")
def test_failure_after_waiting(monkeypatch: pytest.MonkeyPatch, warned: Callable[[], list[str]]) -> None:
    """The application's provider is set all the same."""
    monkeypatch.setattr(guard, "reraise", False)

    def fail(_: Any) -> None:
        raise LookupError

    tracer_provider.when_set(fail)
    provider = sdk()
    trace.set_tracer_provider(provider)
    assert trace.get_tracer_provider() is provider
    assert len(warned()) == 1
