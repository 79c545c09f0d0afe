"""Every tracer of the SDK: its spans are annotated once, whoever made it and whenever, and nothing else of it changes."""

from __future__ import annotations

import asyncio
import copy
import functools
import importlib
import inspect
import pickle
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import wrapt
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import Span as SdkSpan
from opentelemetry.sdk.trace import Tracer as SdkTracer
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, Sampler
from opentelemetry.trace import INVALID_SPAN, NonRecordingSpan, get_current_span, set_span_in_context, use_span
from otel_profiling_configurator import ProfilingTracerProvider, Scope
from otel_profiling_configurator.spans import local_roots, sdk_tracers
from otel_profiling_configurator.spans.labels import SPAN_ATTRIBUTE, LabelRules, SpanLabels

from .fakes import Caching, Tags, expected, pairs_of, span_context

PROFILE_ID = "pyroscope.profile.id"
ORIGINAL = inspect.unwrap(SdkTracer.start_span)


@pytest.fixture
def installed(following: Tags) -> Iterator[None]:
    """Spans of all tracers are annotated, in C where that follows; afterwards the SDK's classes are as they were."""
    assert following is not None
    before = [vars(owner).get(name) for owner, name in PATCHED]
    undo = sdk_tracers.install(LabelRules())
    yield
    undo()
    assert [vars(owner).get(name) for owner, name in PATCHED] == before


PATCHED: list[tuple[type, str]] = [
    (SdkTracer, "start_span"),
    (SdkSpan, "update_name"),
    (NonRecordingSpan, "update_name"),
    (NonRecordingSpan, SPAN_ATTRIBUTE),
]


def provider_of(sampler: Sampler = ALWAYS_ON) -> TracerProvider:
    return TracerProvider(sampler=sampler, shutdown_on_exit=False)


def tracer_of(sampler: Sampler = ALWAYS_ON) -> Any:
    return provider_of(sampler).get_tracer("test")


def labels_as_root(span: Any, name: str) -> dict[str, str]:
    context = span.get_span_context()
    return expected(context.trace_id, context.span_id, name)


def test_tracer_made_before() -> None:
    """Its spans are annotated from then on, with the profile's id; none after the end of it."""
    tracer = tracer_of()
    tracer.start_span("before").end()
    undo = sdk_tracers.install(LabelRules())
    span = tracer.start_span("GET /")
    undo()
    assert pairs_of(span) == labels_as_root(span, "GET /")
    assert span.attributes == {PROFILE_ID: f"{span.get_span_context().span_id:016x}"}
    late = tracer.start_span("late")
    assert pairs_of(late) is None
    assert PROFILE_ID not in late.attributes


@pytest.mark.usefixtures("installed")
def test_spans_of_two_providers() -> None:
    """They make one tree: a descendant has its local root's labels, whoever made either."""
    first, second = tracer_of(), tracer_of()
    with first.start_as_current_span("GET /") as root:
        child = second.start_span("query")
        with use_span(child):
            grandchild = first.start_span("row")
    assert pairs_of(child) == pairs_of(grandchild) == pairs_of(root) == labels_as_root(root, "GET /")
    assert PROFILE_ID not in child.attributes


@pytest.mark.usefixtures("installed")
def test_unsampled_spans_of_any_provider() -> None:
    """They have their name."""
    tracer = tracer_of(ALWAYS_OFF)
    root = tracer.start_span("GET /")
    with use_span(root):
        assert pairs_of(tracer.start_span("query")) == pairs_of(root) == {"span_name": "GET /"}


@pytest.mark.usefixtures("installed")
def test_remote_parent() -> None:
    """It is no span of this process: it stays without labels, and its child is a local root."""
    parent = NonRecordingSpan(span_context(remote=True))
    span = tracer_of().start_span("GET /", set_span_in_context(parent, Context()))
    assert pairs_of(span) == labels_as_root(span, "GET /")
    assert SPAN_ATTRIBUTE not in vars(parent)


@pytest.mark.usefixtures("installed")
def test_decorated_async_function(following: Tags) -> None:
    """The span, and its labels, last until the coroutine has ended."""

    @tracer_of().start_as_current_span("work")
    async def work() -> dict[str, str]:
        await asyncio.sleep(0)
        return following.current()

    assert inspect.iscoroutinefunction(work)
    assert asyncio.run(work())["span_name"] == "work"
    assert following.current() == {}


@pytest.mark.usefixtures("installed")
def test_start_span_seen_by_others() -> None:
    """It has the SDK's name, place, arguments and source, and may be pickled and copied like that."""
    start_span = SdkTracer.start_span
    assert start_span is not ORIGINAL
    for fact in ("__name__", "__qualname__", "__module__", "__doc__", "__defaults__", "__kwdefaults__", "__annotations__"):
        assert getattr(start_span, fact) == getattr(ORIGINAL, fact)
    assert inspect.isfunction(start_span)
    assert inspect.signature(start_span) == inspect.signature(ORIGINAL)
    assert inspect.getsource(start_span) == inspect.getsource(ORIGINAL)
    assert pickle.loads(pickle.dumps(start_span)) is start_span  # noqa: S301 - of our own making
    assert copy.deepcopy(start_span) is start_span
    with pytest.raises(TypeError, match=r"Tracer\.start_span\(\) missing 1 required positional argument: 'name'"):
        tracer_of().start_span()


def test_pickled_without_us() -> None:
    """What was pickled while spans were annotated is the SDK's own afterwards, and the other way round."""
    pickled = pickle.dumps(SdkTracer.start_span)
    undo = sdk_tracers.install(LabelRules())
    assert pickle.loads(pickled) is SdkTracer.start_span  # noqa: S301 - of our own making
    pickled = pickle.dumps(SdkTracer.start_span)
    undo()
    assert pickle.loads(pickled) is ORIGINAL  # noqa: S301 - of our own making


@pytest.mark.usefixtures("installed")
def test_span_that_is_copied() -> None:
    """A copy in this process is labelled as it is; in another process, where it may be unpickled, it is none of ours."""
    tracer = tracer_of(ALWAYS_OFF)
    span = tracer.start_span("GET /")
    with use_span(span):
        copied, elsewhere = copy.deepcopy(span), pickle.loads(pickle.dumps(span))  # noqa: S301 - of our own making
    assert pairs_of(copied) == pairs_of(span) == {"span_name": "GET /"}
    assert pairs_of(elsewhere) is None
    assert pairs_of(tracer.start_span("query", set_span_in_context(copied, Context()))) == {"span_name": "GET /"}
    assert pairs_of(tracer.start_span("query", set_span_in_context(elsewhere, Context()))) == {"span_name": "query"}


@pytest.mark.usefixtures("installed")
def test_tracer_of_a_wrapped_provider() -> None:
    """It is left as it is: its class does what the wrapper would."""
    inner: Any = tracer_of()
    tracer: Any = ProfilingTracerProvider(Caching(inner)).get_tracer("test")
    assert tracer is inner
    assert "start_span" not in vars(tracer)
    span = tracer.start_span("GET /")
    assert pairs_of(span) == labels_as_root(span, "GET /")


@pytest.mark.usefixtures("installed")
def test_wrapped_provider_with_scopes_of_its_own() -> None:
    """They are its spans', and others' spans keep theirs."""
    tracer: Any = ProfilingTracerProvider(provider_of(), Scope.ALL, Scope.NONE).get_tracer("test")
    with tracer.start_as_current_span("GET /") as root:
        child = tracer.start_span("query")
    trace_id = root.get_span_context().trace_id
    assert pairs_of(root) == expected(trace_id, root.get_span_context().span_id, None)
    assert pairs_of(child) == expected(trace_id, child.get_span_context().span_id, None)
    assert PROFILE_ID in child.attributes
    other = tracer_of().start_span("GET /")
    assert pairs_of(other) == labels_as_root(other, "GET /")


class Overriding(SdkTracer):
    """A tracer of a vendor's, which calls the SDK's method."""

    def start_span(self, name: str, *args: Any, **kwargs: Any) -> Any:  # type: ignore[override]
        return super().start_span(f"vendor's {name}", *args, **kwargs)


class Wrapping(Overriding):
    """One that hands out what it has wrapped around the SDK's span."""

    def start_span(self, name: str, *args: Any, **kwargs: Any) -> Any:  # type: ignore[override]
        return Wrapped(super().start_span(name, *args, **kwargs))


class Replacing(SdkTracer):
    """One that makes spans of its own, and never calls the SDK's method."""

    def start_span(self, *_args: Any, **_kwargs: Any) -> Any:
        return NonRecordingSpan(span_context())


class Wrapped(trace.Span):
    """A span around another one, as logfire's: it has the API's methods, and looks everything else up in that."""

    def __init__(self, span: Any) -> None:
        self.span = span

    def _delegating(name: str) -> Any:  # type: ignore[misc] # noqa: N805 - makes the methods of this class
        return lambda self, *args, **kwargs: getattr(self.span, name)(*args, **kwargs)

    end, get_span_context, set_attributes, set_attribute = map(
        _delegating, ("end", "get_span_context", "set_attributes", "set_attribute")
    )
    add_event, update_name, is_recording, set_status, record_exception = map(
        _delegating, ("add_event", "update_name", "is_recording", "set_status", "record_exception")
    )

    def __getattr__(self, name: str) -> Any:
        return getattr(self.span, name)


def of_class(tracer_class: type[SdkTracer]) -> Any:
    tracer = tracer_of()
    tracer.__class__ = tracer_class
    return tracer


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("wrapped", [False, True], ids=["of any provider", "of a wrapped one"])
@pytest.mark.parametrize("tracer_class", [Overriding, Wrapping])
def test_tracer_that_overrides_the_method(tracer_class: type[SdkTracer], wrapped: bool) -> None:
    """What it calls annotates its spans, under the name that they get; once."""
    tracer = of_class(tracer_class)
    if wrapped:
        tracer = ProfilingTracerProvider(Caching(tracer)).get_tracer("test")
    span = tracer.start_span("GET /")
    assert pairs_of(span) == labels_as_root(span, "vendor's GET /")
    with use_span(span):
        assert pairs_of(tracer_of().start_span("query")) == pairs_of(span)
    span.update_name("GET /users")
    assert pairs_of(span) == labels_as_root(span, "GET /users")


@pytest.mark.usefixtures("installed")
def test_tracer_that_replaces_the_method() -> None:
    """The wrapper of its provider sees to its spans."""
    tracer: Any = ProfilingTracerProvider(Caching(of_class(Replacing))).get_tracer("test")
    span = tracer.start_span("GET /")
    assert pairs_of(span) == labels_as_root(span, "GET /")


@pytest.mark.usefixtures("installed")
def test_method_called_with_a_proxy() -> None:
    """A proxy around a tracer may call the method of its class with itself, as openinference's does."""

    class Proxy(wrapt.ObjectProxy):  # type: ignore[misc, type-arg] # untyped before wrapt 2
        def start_span(self, *args: Any, **kwargs: Any) -> Any:
            return wrapt.ObjectProxy(type(self.__wrapped__).start_span(self, *args, **kwargs))

    tracer = Proxy(tracer_of())
    span = tracer.start_span("GET /")
    assert pairs_of(span) == labels_as_root(span, "GET /")
    with use_span(span):
        assert pairs_of(tracer.start_span("query")) == pairs_of(span)


@pytest.mark.parametrize("over", ["over ours", "below ours"])
def test_patch_of_others(over: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is called, before and after; what stays of ours below it does nothing any more, until we come again."""
    called: list[str] = []

    def patch() -> Any:
        original = SdkTracer.start_span

        @functools.wraps(original)
        def start_span(self: Any, name: str, *args: Any, **kwargs: Any) -> Any:
            called.append(name)
            return original(self, name, *args, **kwargs)

        monkeypatch.setattr(SdkTracer, "start_span", start_span)
        return start_span

    tracer = tracer_of()
    if over == "below ours":
        theirs = patch()
        undo = sdk_tracers.install(LabelRules())
    else:
        undo = sdk_tracers.install(LabelRules())
        theirs = patch()
    with tracer.start_as_current_span("GET /") as span:
        assert pairs_of(tracer.start_span("query")) == pairs_of(span) == labels_as_root(span, "GET /")
    undo()
    assert SdkTracer.start_span is theirs
    late = tracer.start_span("late")
    assert pairs_of(late) is None
    assert PROFILE_ID not in late.attributes
    undo = sdk_tracers.install(LabelRules())
    again = tracer.start_span("again")
    assert pairs_of(again) == labels_as_root(again, "again")
    undo()
    assert called == ["GET /", "query", "late", "again"]
    monkeypatch.undo()
    # What was left below theirs stays where nobody else took it away; it only calls the SDK's.
    SdkTracer.start_span = ORIGINAL  # type: ignore[method-assign]


def test_shared_span_of_others_below() -> None:
    """Who switches spans off below us may hand out the invalid span that everybody shares: it has no labels."""

    @functools.wraps(ORIGINAL)
    def start_span(*_: Any, **__: Any) -> Any:
        return INVALID_SPAN

    root = NonRecordingSpan(span_context(sampled=False))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SdkTracer, "start_span", start_span)
        undo = sdk_tracers.install(LabelRules())
        setattr(root, SPAN_ATTRIBUTE, LabelRules().of_local_root(root.get_span_context(), "GET /", local_roots.this_process))
        with use_span(root):
            tracer_of().start_span("nothing")
        tracer_of().start_span("nothing")
        undo()
    assert SPAN_ATTRIBUTE not in vars(INVALID_SPAN)


def test_arguments_of_a_future_sdk() -> None:
    """What we do not know is passed on, as it is given."""
    seen: list[Any] = []

    def start_span(self: Any, name: str, context: Any = None, kind: Any = None, *args: Any, new: int = 0, **kwargs: Any) -> Any:
        seen.append(new)
        return ORIGINAL(self, name, context, kind or trace.SpanKind.INTERNAL, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SdkTracer, "start_span", start_span)
        undo = sdk_tracers.install(LabelRules())
        tracer = tracer_of()
        span = tracer.start_span("GET /", new=7)
        with use_span(span):
            child = tracer.start_span(name="query")
        undo()
    assert seen == [7, 0]
    assert pairs_of(child) == pairs_of(span) == labels_as_root(span, "GET /")


@pytest.fixture
def second_import(installed: None) -> Iterator[Any]:
    """`sdk_tracers` of another import of our package in this process, as sandboxes and reloaders make one."""
    del installed
    mine = {name: module for name, module in sys.modules.items() if name.startswith("otel_profiling_configurator.spans")}
    for name in mine:
        del sys.modules[name]
    yield importlib.import_module("otel_profiling_configurator.spans.sdk_tracers")
    for name in [name for name in sys.modules if name.startswith("otel_profiling_configurator.spans")]:
        del sys.modules[name]
    sys.modules.update(mine)
    for name, module in mine.items():
        parent, _, attribute = name.rpartition(".")
        setattr(sys.modules[parent], attribute, module)


@pytest.mark.usefixtures("following")
def test_second_import(second_import: Any) -> None:
    """It annotates nothing twice, and undoes nothing of the first one's; nor does its wrapper of a provider."""
    other: Any = importlib.import_module("otel_profiling_configurator.spans.tracer_provider")
    assert second_import is not sdk_tracers
    start_span, update_name = SdkTracer.start_span, vars(SdkSpan)["update_name"]
    undo = second_import.install(importlib.import_module("otel_profiling_configurator.spans.labels").LabelRules())
    tracer = other.ProfilingTracerProvider(provider_of()).get_tracer("test")
    with tracer.start_as_current_span("GET") as root:
        child = tracer.start_span("query")
        root.update_name("GET /")
    assert type(getattr(root, SPAN_ATTRIBUTE)) is SpanLabels
    assert pairs_of(child) == pairs_of(root) == labels_as_root(root, "GET /")
    undo()
    assert SdkTracer.start_span is start_span
    assert vars(SdkSpan)["update_name"] is update_name
    span = tracer_of().start_span("GET /")
    assert pairs_of(span) == labels_as_root(span, "GET /")


@pytest.mark.usefixtures("installed")
def test_installed_twice() -> None:
    """The second time does nothing, and neither does its undo."""
    start_span = SdkTracer.start_span
    sdk_tracers.install(LabelRules(Scope.ALL))()
    assert SdkTracer.start_span is start_span
    with tracer_of().start_as_current_span("GET /") as span:
        assert pairs_of(get_current_span()) == labels_as_root(span, "GET /")


@pytest.mark.usefixtures("installed")
def test_arguments_of_this_sdk() -> None:
    """They are the ones that are passed on one by one: to take any would double what a span costs."""
    assert not SdkTracer.start_span.__code__.co_flags & (inspect.CO_VARARGS | inspect.CO_VARKEYWORDS)
