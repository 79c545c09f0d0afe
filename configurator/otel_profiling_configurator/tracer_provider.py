"""Annotates every span that is started with what its samples shall be labelled with.

The whole idea is that of Grafana's otel-profiling-go: wrap the tracer provider. A span processor would be simpler, but it
never sees the spans that the sampler drops, and at 1 % sampling those are nearly all the work there is.
Spans are annotated, not wrapped: they stay the objects that the inner provider made.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from types import FunctionType
from typing import Any, cast

import wrapt
from opentelemetry import trace
from opentelemetry.context import Context, get_current
from opentelemetry.sdk.trace import Tracer as SdkTracer
from opentelemetry.trace import INVALID_SPAN, Link, Span, SpanKind, TraceFlags, Tracer, TracerProvider
from opentelemetry.util.types import Attributes

from .guard import report
from .labels import PROFILE_ID_ATTRIBUTE, SpanLabels, label_value
from .scope import Scope
from .thread_labels import CURRENT_SPAN, SPAN_ATTRIBUTE, refresh

_SAMPLED = TraceFlags.SAMPLED


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
        self._self_annotator = _Annotator(span_id_scope, span_name_scope)

    def get_tracer(self, *args: Any, **kwargs: Any) -> Tracer:
        """Return the inner provider's tracer, wrapped."""
        tracer: Tracer = self.__wrapped__.get_tracer(*args, **kwargs)
        return cast(Tracer, _ProfilingTracer(tracer, self._self_annotator))


class _ProfilingTracer(wrapt.ObjectProxy):  # type: ignore[type-arg] # generic since wrapt 2, to type checkers only
    """A tracer whose spans are annotated as they start."""

    def __init__(self, tracer: Tracer, annotator: _Annotator) -> None:
        super().__init__(tracer)
        self._self_start_span = tracer.start_span
        self._self_annotate = annotator.annotate
        function = getattr(type(tracer), "start_as_current_span", None)
        # Not a plain function where the tracer is itself some proxy: the SDK's asks nothing of its `self` but start_span.
        self._self_function = function if isinstance(function, FunctionType) else SdkTracer.start_as_current_span

    def start_span(
        self,
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
        """Start the inner tracer's span and annotate it. Arguments are the API's, passed on by position: the cheapest call."""
        span: Span = self._self_start_span(
            name, context, kind, attributes, links, start_time, record_exception, set_status_on_exception, **kwargs
        )
        self._self_annotate(span, name, context)
        return span

    @property
    def start_as_current_span(self) -> Callable[..., Any]:
        """The inner tracer's own, run on this proxy, so that it starts its span here."""
        return self._self_function.__get__(self)


class _Annotator:
    """Decides the labels of a span that has just been started, and leaves them on it."""

    def __init__(self, span_id_scope: Scope, span_name_scope: Scope) -> None:
        self._id_scope = span_id_scope
        self._name_scope = span_name_scope
        self._shared = Scope.ALL not in (span_id_scope, span_name_scope)
        """Whether a descendant's labels are its local root's, so that both can hold the same object."""

    def annotate(self, span: Span, name: str, context: Context | None) -> None:
        """Annotate `span`, started as `name` under the span of `context` (None: the current one). Never raises."""
        try:
            parent: SpanLabels | None = getattr(
                (get_current() if context is None else context).get(CURRENT_SPAN), SPAN_ATTRIBUTE, None
            )
            span_context = span.get_span_context()
            sampled = span_context.trace_flags & _SAMPLED
            if parent is None or not self._shared or sampled != parent.sampled:
                self._annotate(span, name, span_context, parent)
            elif span is not INVALID_SPAN:
                setattr(span, SPAN_ATTRIBUTE, parent)
        except Exception:  # noqa: BLE001 - called from inside the application's start_span
            report("annotate a span")

    def _annotate(self, span: Span, name: str, span_context: trace.SpanContext, parent: SpanLabels | None) -> None:
        if not span_context.is_valid:
            return  # a tracer that is switched off hands out a span that everybody shares
        span_id = format(span_context.span_id, "016x")
        if parent is not None and parent.owner == span_id:
            # A tracer that is switched off, below one that is not, hands its parent on under the same identity.
            setattr(span, SPAN_ATTRIBUTE, parent)
            return
        labels = SpanLabels(
            trace_id=format(span_context.trace_id, "032x"),
            span_id=span_id,
            name=label_value(name),
            sampled=span_context.trace_flags & _SAMPLED,
            id_scope=self._id_scope,
            name_scope=self._name_scope,
            parent=parent,
        )
        setattr(span, SPAN_ATTRIBUTE, labels)
        _follow_renames(type(span))
        if labels.span_id == span_id:
            span.set_attribute(PROFILE_ID_ATTRIBUTE, span_id)


_followed: dict[type, Callable[[], None]] = {}
"""Span classes whose `update_name` we see, and what ends that."""


def _follow_renames(span_class: type) -> None:
    """Have `update_name` of this class's spans rename their labels.

    On the class, once: anything on the instance would cost every span, and a reference cycle too.
    """
    if span_class in _followed:
        return
    owner = next(base for base in span_class.__mro__ if "update_name" in vars(base))
    if owner is not span_class:
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
    labels: SpanLabels | None = getattr(span, SPAN_ATTRIBUTE, None)
    if labels is None or labels.owner != format(span.get_span_context().span_id, "016x"):
        return  # a descendant that labels nothing of its own
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
