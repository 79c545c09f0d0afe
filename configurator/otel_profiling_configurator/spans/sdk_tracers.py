"""Annotates every span of the SDK's tracers, whoever made their provider, and whenever.

What is current in a context is what its work is for, so no provider may be missed: observability libraries bring their own,
and modules ask for tracers long before profiling begins. What all of them share is the method `Tracer.start_span` of the SDK:
it is exchanged at the class, once. A span processor would be simpler, but never sees the spans that the trace sampler drops,
and at 1 % sampling those are nearly all the work there is.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from types import MethodType
from typing import Any

import opentelemetry.sdk.trace as sdk_trace
from opentelemetry.attributes import BoundedAttributes
from opentelemetry.context import Context
from opentelemetry.sdk.trace import Span as SdkSpan
from opentelemetry.sdk.trace import Tracer as SdkTracer
from opentelemetry.trace import Link, NonRecordingSpan, Span, SpanKind
from opentelemetry.util.types import Attributes

from ..guard import report
from ..native import native
from . import local_roots, renames
from .annotation import annotate_usual, annotating_any
from .labels import NOT_OURS, PROFILE_ID_ATTRIBUTE, SPAN_ATTRIBUTE, LabelRules
from .scope import Scope

_OURS = "_otel_profiling_scopes"
"""Attribute that marks a `start_span` of ours, or of another import of this package: a list of the scopes of its rules, empty
once it labels nothing any more. (`functools.wraps` hands it on to whatever others put over ours, so they must share it.)"""


def install(rules: LabelRules) -> Callable[[], None]:
    """Have the spans of all tracers of the SDK labelled by `rules`; return what ends that.

    Where another import of this package does it already, as sandboxes make one, nothing is done.
    """
    original = vars(SdkTracer)["start_span"]
    if scopes_of(original) is not None:
        return _nothing
    annotating, stop = _annotating(original, rules, _natively(rules))
    SdkTracer.start_span = annotating  # type: ignore[method-assign]
    # Remote parents have no labels, and an exception for each of them would cost more than the rest. Not on their base class:
    # there it would hide the labels behind spans that others wrap around the SDK's, and look up in those (as logfire's).
    setattr(NonRecordingSpan, SPAN_ATTRIBUTE, NOT_OURS)

    def undo() -> None:
        stop()  # for those who keep it: another's that was put over ours, a tracer's bound method
        getattr(annotating, _OURS).clear()
        if vars(SdkTracer)["start_span"] is annotating:
            SdkTracer.start_span = original  # type: ignore[method-assign]
        if SPAN_ATTRIBUTE in vars(NonRecordingSpan):
            delattr(NonRecordingSpan, SPAN_ATTRIBUTE)
        renames.unfollow_all()

    return undo


def scopes_of(start_span: Any) -> tuple[str, str] | None:
    """Return by which scopes a `start_span` labels its spans; None if it doesn't."""
    scopes = getattr(start_span, _OURS, None)
    return scopes[0] if isinstance(scopes, list) and scopes else None  # a mock has every attribute


def marked(start_span: Callable[..., Span], rules: LabelRules) -> Callable[..., Span]:
    """Return this function, of which `scopes_of` knows that it labels its spans by these rules."""
    setattr(start_span, _OURS, [rules.scopes])
    return start_span


def shadow_of(tracer: Any, rules: LabelRules) -> MethodType | None:
    """Return a `start_span` for one tracer of the SDK, by rules of its own; None if it has another than the SDK's."""
    bound: Any = tracer.start_span
    if getattr(bound, "__func__", None) is not vars(SdkTracer)["start_span"]:
        return None
    original = bound.__func__ if scopes_of(bound) is None else bound.__wrapped__
    return MethodType(_annotating(original, rules, _nothing)[0], tracer)


def _annotating(
    original: Callable[..., Span], rules: LabelRules, annotated: Callable[..., bool | None]
) -> tuple[Callable[..., Span], Callable[[], None]]:
    """Return `original`, a tracer's `start_span`, with what labels its spans, and what ends that.

    Args:
        original: The SDK's own.
        rules: Which labels spans get.
        annotated: Labels a span, and tells whether it has.
    """
    local_roots.follow_forks()
    for span_class in (SdkSpan, NonRecordingSpan):
        if span_class not in renames.followed:
            renames.follow_renames(span_class)
    begin: Callable[..., None] = annotate_usual

    def start_span(  # arguments are the API's, passed on by position: the cheapest call
        self: Any,
        name: str,
        context: Context | None = None,
        kind: SpanKind = SpanKind.INTERNAL,
        attributes: Attributes = None,
        links: Sequence[Link] | None = (),
        start_time: int | None = None,
        record_exception: bool = True,
        set_status_on_exception: bool = True,
    ) -> Any:
        span: Any = original(
            self, name, context, kind, attributes, links, start_time, record_exception, set_status_on_exception
        )
        try:
            if not annotated(self, span, name, context, kind):
                begin(rules, self, span, name, context, kind)
        except Exception:  # noqa: BLE001 - called from inside the application's start_span
            report("annotate a span")
        return span

    def stop() -> None:
        nonlocal annotated, begin
        annotated = begin = _nothing

    if _arguments(original) != _arguments(start_span):  # to take any arguments, as below, would double what we cost
        return marked(annotating_any(original, rules), rules), _nothing
    return marked(functools.wraps(original)(start_span), rules), stop


def _natively(rules: LabelRules) -> Callable[..., bool | None]:
    """Return what labels the usual spans in C, by the usual scopes, and tells whether it has."""
    if native is None or rules.scopes != (Scope.ROOT.value, Scope.ROOT.value):
        return _nothing
    native.use_classes(
        vars(local_roots),
        rules.names,
        NOT_OURS,
        getattr(sdk_trace, "_Span", SdkSpan),  # what its tracers make (1.30 to 1.45 at least)
        NonRecordingSpan,
        BoundedAttributes,
        SpanKind.SERVER,
        SpanKind.CONSUMER,
        local_roots.COMMANDS,
        PROFILE_ID_ATTRIBUTE,
    )
    return native.annotate


def _arguments(function: Callable[..., Any]) -> tuple[Any, ...]:
    """Return what a function takes, in a form to be compared; `inspect.signature` takes ten times as long."""
    innermost: Any = inspect.unwrap(function)
    code = getattr(innermost, "__code__", None)
    if code is None:
        return ()  # made in C, or callable otherwise
    count = code.co_argcount + code.co_kwonlyargcount
    any_other = code.co_flags & (inspect.CO_VARARGS | inspect.CO_VARKEYWORDS)
    return code.co_varnames[:count], any_other, innermost.__defaults__, innermost.__kwdefaults__


def _nothing(*_: Any) -> None:
    """Do nothing."""
