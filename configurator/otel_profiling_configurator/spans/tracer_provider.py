"""Annotates every span that is started with what its samples shall be labelled with.

The whole idea is that of Grafana's otel-profiling-go: wrap the tracer provider. A span processor would be simpler, but it
never sees the spans that the sampler drops, and at 1 % sampling those are nearly all the work there is.
Spans are annotated, not wrapped, and tracers shadowed: they stay the objects that the inner provider made.

What is done for nearly each span of the SDK's is there in C as well (`_tracer_provider.c`), and done there if that was built.
"""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable, Sequence
from types import MethodType
from typing import Any, cast

import opentelemetry.context as context_api
import wrapt
from opentelemetry import trace
from opentelemetry.attributes import BoundedAttributes  # noqa: F401 - for the form in C
from opentelemetry.context import Context
from opentelemetry.sdk.trace import Span as SdkSpan
from opentelemetry.sdk.trace import Tracer as SdkTracer
from opentelemetry.sdk.trace.sampling import Decision, ParentBased, StaticSampler, TraceIdRatioBased
from opentelemetry.trace import INVALID_SPAN, Link, NonRecordingSpan, Span, SpanKind, TraceFlags, Tracer, TracerProvider
from opentelemetry.util.types import Attributes

from ..guard import is_of_signal_handler, report
from ..threads.thread_labels import CURRENT_SPAN, NO_SPAN, NOT_OURS, SPAN_ATTRIBUTE, refresh
from .labels import PROFILE_ID_ATTRIBUTE, LabelRules, SpanLabels, label_value  # noqa: F401 - one for the form in C
from .profile_id import set_profile_id
from .scope import Scope

_SPAN_ID, _TRACE_FLAGS, _IS_VALID = 1, 3, 5
"""Places in a `SpanContext`, which is a tuple: its properties are Python functions, and cost like them."""

_OURS = "_otel_profiling"
"""Attribute that marks a `start_span` of ours."""


class ProfilingTracerProvider(wrapt.ObjectProxy):  # type: ignore[type-arg] # generic since wrapt 2, to type checkers only
    """A tracer provider whose spans' CPU samples can be told apart in Pyroscope.

    Everything but `get_tracer` is the inner provider's: `isinstance`, ``add_span_processor``, ``resource``, ``shutdown``.
    Labels reach the samples while the hooks of `otel_profiling_configurator.activate` are in place.

    Args:
        provider: Any provider that conforms to the OpenTelemetry API.
        span_id_scope: Which spans own a ``span_id`` label and the span attribute ``pyroscope.profile.id``.
        span_name_scope: Which spans own a ``span_name`` label.
    """

    def __init__(
        self,
        provider: TracerProvider,
        span_id_scope: Scope = Scope.ROOT,
        span_name_scope: Scope = Scope.ROOT,
    ) -> None:
        super().__init__(provider)
        self._self_rules = LabelRules(span_id_scope, span_name_scope)
        self._self_tracers: weakref.WeakSet[Tracer] = weakref.WeakSet()

    def get_tracer(self, *args: Any, **kwargs: Any) -> Tracer:
        """Return the inner provider's tracer, whose spans are annotated from now on."""
        tracer: Tracer = self.__wrapped__.get_tracer(*args, **kwargs)
        try:
            if not _is_ours(tracer.start_span):
                # Shadowed on the instance: `start_as_current_span` finds it there, and nothing else is in the way. A proxy
                # around the tracer would cost every span more than all the rest of what we do. (So would a look into the
                # instance's dictionary, by and by: an object whose dictionary was once asked for is a slower one ever after.)
                tracer.start_span = _annotating(tracer.start_span, self._self_rules)  # type: ignore[method-assign]
                self._self_tracers.add(tracer)
        except (TypeError, AttributeError):  # no instance dictionary, so that nothing can be shadowed
            return cast(Tracer, _ProfilingTracer(tracer, self._self_rules))
        return tracer

    def _self_release_tracers(self) -> None:
        """Give the tracers that were handed out their own `start_span` back: an SDK hands the same ones out again."""
        for tracer in tuple(self._self_tracers):
            shadow: Any = tracer.start_span
            if _is_ours(shadow):
                del tracer.start_span  # the shadow, not the method
                if not isinstance(shadow.__wrapped__, MethodType):
                    tracer.start_span = shadow.__wrapped__  # type: ignore[method-assign] # somebody else's shadow
        self._self_tracers.clear()


class _ProfilingTracer(wrapt.ObjectProxy):  # type: ignore[type-arg] # generic since wrapt 2, to type checkers only
    """Stands in front of a tracer that has no instance dictionary."""

    def __init__(self, tracer: Tracer, rules: LabelRules) -> None:
        super().__init__(tracer)
        self._self_start_span = _annotating(tracer.start_span, rules)

    @property
    def start_span(self) -> Callable[..., Span]:
        """The inner tracer's, annotating."""
        return self._self_start_span

    @property
    def start_as_current_span(self) -> Callable[..., Any]:
        """The SDK's own, run on this proxy: it asks nothing of its tracer but `start_span`."""
        return cast(Callable[..., Any], SdkTracer.start_as_current_span.__get__(self))


def _annotating(start_span: Callable[..., Span], rules: LabelRules) -> Callable[..., Span]:
    """Return `start_span`, leaving on each span what its samples shall be labelled with."""
    descendants_share, of_local_root = rules.descendants_share, rules.of_local_root
    # The SDK's tracer makes the SDK's spans or the API's, and both have it in `_context` (1.30 to 1.45 at least).
    tracer = getattr(start_span, "__self__", None)
    is_sdk = isinstance(tracer, SdkTracer)
    if is_sdk:
        for span_class in (SdkSpan, NonRecordingSpan):
            if span_class not in _followed:
                _follow_renames(span_class)
    shared_if_alike = descendants_share and isinstance(tracer, SdkTracer) and _records_what_it_samples(tracer.sampler)

    def annotate(span: Any, name: str, context: Context | None, raised: Exception | None = None) -> None:
        try:
            if raised is not None:  # in the form in C
                _raise_if_of_signal_handler(raised)
            try:
                current = context_api.get_current() if context is None else context
                parent_span: Any = current.get(CURRENT_SPAN, NO_SPAN)
                parent = parent_span._otel_profiling_labels
            except AttributeError:  # a span that is none of the API's, or a context that is none
                parent_span = trace.get_current_span(context)
                parent = getattr(parent_span, SPAN_ATTRIBUTE, NOT_OURS)
            if parent is not NOT_OURS and shared_if_alike and parent.sampled is (span.__class__ is not NonRecordingSpan):
                # The usual descendant. It would come to the same below, by way of its trace flags.
                span._otel_profiling_labels = parent
                return
            span_context = span._context if is_sdk else span.get_span_context()
            if parent is NOT_OURS:
                # A tracer that is switched off starts nothing: it hands its parent on, or a span that everybody shares.
                if span_context[_IS_VALID] and (
                    parent_span is NO_SPAN or parent_span.get_span_context()[_SPAN_ID] != span_context[_SPAN_ID]
                ):
                    labels = of_local_root(span_context, name)
                    span._otel_profiling_labels = labels
                    profile_id = labels.values[1]
                    if profile_id:
                        set_profile_id(span, profile_id)
                    if not is_sdk and span.__class__ not in _followed:
                        _follow_renames(span.__class__)
            elif descendants_share and parent.sampled is bool(span_context[_TRACE_FLAGS] & TraceFlags.SAMPLED):
                if span is not INVALID_SPAN:
                    span._otel_profiling_labels = parent
            elif span_context[_IS_VALID]:
                _annotate_descendant(span, rules.of_descendant(parent, span_context, name), rules.own_span_ids)
        except Exception:  # noqa: BLE001 - called from inside the application's start_span
            report("annotate a span")

    if _in_c is not None and is_sdk:
        return _in_c.annotating(start_span, annotate, shared_if_alike, rules.root_names)

    @functools.wraps(start_span)
    def annotating(  # arguments are the API's, passed on by position: the cheapest call
        name: str,
        context: Context | None = None,
        kind: SpanKind = SpanKind.INTERNAL,
        attributes: Attributes = None,
        links: Sequence[Link] | None = (),
        start_time: int | None = None,
        record_exception: bool = True,
        set_status_on_exception: bool = True,
        **kwargs: Any,
    ) -> Span:
        if kwargs:  # what a future API may add; passing even an empty dictionary on would make the call a slow one
            span = start_span(
                name, context, kind, attributes, links, start_time, record_exception, set_status_on_exception, **kwargs
            )
        else:
            span = start_span(name, context, kind, attributes, links, start_time, record_exception, set_status_on_exception)
        annotate(span, name, context)
        return span

    setattr(annotating, _OURS, True)
    return annotating


def _raise_if_of_signal_handler(error: Exception) -> None:
    try:
        raise error
    except Exception:
        if is_of_signal_handler():
            raise
    finally:
        del error  # its traceback has this frame, and the application's


def _is_ours(start_span: Callable[..., Span]) -> bool:
    return getattr(start_span, _OURS, None) is True  # a mock has every attribute


_DELEGATES = ("_root", *(f"_{place}_parent_{was}" for place in ("remote", "local") for was in ("sampled", "not_sampled")))
"""Attributes of a `ParentBased` sampler: those that decide (SDK 1.30 to 1.45 at least)."""


def _records_what_it_samples(sampler: object) -> bool:
    """Whether this sampler never records a span that it does not sample, so that a span's class tells its trace flag."""
    if type(sampler) is ParentBased:
        # By name, not by way of its dictionary, for the same reason as in `get_tracer`.
        return all(_records_what_it_samples(getattr(sampler, delegate, None)) for delegate in _DELEGATES)
    if type(sampler) is StaticSampler:  # a subclass may decide anything
        return sampler._decision is not Decision.RECORD_ONLY
    return type(sampler) is TraceIdRatioBased


def _annotate_descendant(span: Any, labels: SpanLabels, own_span_ids: bool) -> None:
    span._otel_profiling_labels = labels
    profile_id = labels.values[1]
    if own_span_ids and profile_id:
        set_profile_id(span, profile_id)
    if type(span) not in _followed:
        _follow_renames(type(span))


_followed: dict[type, Callable[[], None]] = {}
"""Span classes whose `update_name` we see, and what ends that."""


def _follow_renames(span_class: type) -> None:
    """Have `update_name` of this class's spans rename their labels.

    On the class, once: anything on the instance would cost every span, and a reference cycle too.
    """
    owner = next(base for base in span_class.__mro__ if "update_name" in vars(base))
    if owner is not span_class:
        if owner not in _followed:
            _follow_renames(owner)
        _followed[span_class] = _nothing
        return
    original = vars(owner)["update_name"]

    @functools.wraps(original)
    def update_name(self: Span, *args: Any, **kwargs: Any) -> Any:
        result = original(self, *args, **kwargs)
        try:
            _renamed(self, args[0] if args else kwargs["name"])
        except Exception:  # noqa: BLE001 - called from inside the application's update_name
            report("follow a span's new name")
        return result

    def undo() -> None:
        if vars(owner).get("update_name") is update_name:
            owner.update_name = original  # type: ignore[attr-defined] # a class found at run time

    try:
        owner.update_name = update_name  # type: ignore[attr-defined] # a class found at run time
    except TypeError:
        undo = _nothing  # a class made in C: its spans keep the name they were started with
    _followed[owner] = undo


def _nothing() -> None:
    """Undo nothing."""


def _renamed(span: Span, name: str) -> None:
    labels: SpanLabels = getattr(span, SPAN_ATTRIBUTE, NOT_OURS)
    span_context = span.get_span_context()
    if labels is NOT_OURS or labels.owner != span_context.span_id:
        return  # a descendant that labels nothing of its own
    if span_context.trace_flags.sampled and type(span) is NonRecordingSpan:
        return  # what a tracer that is switched off made of its parent: nothing of that name is exported
    # The SDK ignores a new name for an ended span; a span that is not recorded has no name to read back.
    labels.rename(label_value(getattr(span, "name", name)))
    refresh()


def install(provider: TracerProvider) -> Callable[[], None]:
    """Make `provider` the global tracer provider in place of the one that is there; return what puts that back.

    `opentelemetry.trace.set_tracer_provider` allows one call a process, and the SDK has made it. The private name
    ``_TRACER_PROVIDER`` is what it sets (API 1.0 to 1.45 at least).
    """
    inner = trace._TRACER_PROVIDER
    trace._TRACER_PROVIDER = provider

    def undo() -> None:
        if trace._TRACER_PROVIDER is provider:
            trace._TRACER_PROVIDER = inner
        if isinstance(provider, ProfilingTracerProvider):
            provider._self_release_tracers()
        for stop_following in _followed.values():
            stop_following()
        _followed.clear()

    return undo


def when_set(act: Callable[[TracerProvider], None]) -> Callable[[], None]:
    """Call `act` after the application has set its global tracer provider; return what stops waiting for that.

    `opentelemetry.trace.set_tracer_provider` looks the private function ``_set_tracer_provider`` up with every call, so
    modules that imported it early are covered too (API 1.0 to 1.45 at least).
    """
    original = trace._set_tracer_provider

    def undo() -> None:
        if trace._set_tracer_provider is watching:
            trace._set_tracer_provider = original

    @functools.wraps(original)
    def watching(tracer_provider: TracerProvider, log: bool) -> None:
        original(tracer_provider, log)
        undo()
        try:
            act(tracer_provider)
        except Exception:  # noqa: BLE001 - called from inside the application's set_tracer_provider
            report("wrap the tracer provider")

    trace._set_tracer_provider = watching
    return undo


try:
    from .. import _tracer_provider as _in_c
except ImportError:  # it was not built: no compiler, or a tree for all Pythons
    _in_c = None  # type: ignore[assignment] # as said
else:
    _in_c.use(globals(), vars(context_api))
