"""Notices every attach and detach of an OpenTelemetry context.

The SDK tells nobody when the current context changes: span processors see spans start and end, and that is another thing
(a span may be started and never made current, ended by another thread, or attached for a moment in a callback).
So the runtime context, the object behind `opentelemetry.context.attach` and `detach`, is replaced by one that says so.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextvars import Token
from typing import Any

import opentelemetry.context as context_api
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.context.context import _RuntimeContext
from opentelemetry.context.contextvars_context import ContextVarsRuntimeContext
from opentelemetry.sdk import trace as sdk_trace
from opentelemetry.sdk.trace import sampling
from opentelemetry.trace import INVALID_SPAN, NonRecordingSpan, Span

from ..threads.thread_labels import CURRENT_SPAN, attaching, detaching

_SPAN_CLASSES = (getattr(sdk_trace, "_Span", sdk_trace.Span), NonRecordingSpan)
"""What a tracer of the SDK makes (1.30 to 1.45 at least)."""


class ProfilingRuntimeContext(_RuntimeContext):
    """Delegates to the runtime context that was there, and has the thread's labels follow."""

    # Slots that hold plain functions, where the base class has methods: `opentelemetry.context` looks them up and calls them
    # with everything the API does, and this is the cheapest it can be had.
    __slots__ = ("_current_context", "attach", "detach", "get_current", "inner", "inner_detach")

    def __init__(self, inner: _RuntimeContext) -> None:
        attach: Callable[[Context], Token[Context]] = inner.attach
        detach: Callable[[Token[Context]], None] = inner.detach
        get_current = inner.get_current
        if type(inner) is ContextVarsRuntimeContext:
            # The default one only forwards to its variable. Calling that directly pays for most of what we add.
            variable = inner._current_context
            attach, detach, get_current = variable.set, variable.reset, variable.get
            self._current_context = variable  # where others look for it
        self.inner, self.inner_detach = inner, detach
        set_slot = super().__setattr__  # to type checkers they are methods
        set_slot("attach", attaching(attach))
        set_slot("detach", detaching(detach, get_current))
        set_slot("get_current", get_current)


def install() -> Callable[[], None]:
    """Put a `ProfilingRuntimeContext` in front of the current runtime context; return what takes it away.

    `opentelemetry.context` looks the private name ``_RUNTIME_CONTEXT`` up with every call (API 1.0 to 1.45 at least), so
    modules that imported `attach` early are covered too. Whoever replaced it after us is left in place by the undo: what
    stays of ours then only delegates.
    """
    inner = context_api._RUNTIME_CONTEXT
    ours = ProfilingRuntimeContext(inner)  # type: ignore[abstract] # its slots are the methods
    context_api._RUNTIME_CONTEXT = ours
    shorten = _shorten_api(ours)

    def undo() -> None:
        shorten()
        if context_api._RUNTIME_CONTEXT is ours:
            context_api._RUNTIME_CONTEXT = inner

    return undo


def _shorten_api(ours: ProfilingRuntimeContext) -> Callable[[], None]:
    """Spare callers of the API its forwarding functions; return what puts those back.

    `get_current`, `attach` and `detach` of `opentelemetry.context` do nothing but call the runtime context, and a span calls
    them five times; `opentelemetry.trace.get_current_span` is two such calls and a look at the span's abstract base class;
    `opentelemetry.context.set_value` copies the context twice.
    The SDK finds them in their modules with every call, so there shorter ones can stand in their place: that pays for half of
    what we add to a span. Its samplers look for the parent twice a span, by a name of their own. Other early importers keep the
    functions that they have, with the same result.
    """
    # The API's own `detach` fails in the same way on a wrong token, and logs that.
    detach = detaching(ours.inner_detach, ours.get_current, on_failure=context_api.detach)
    get_current_span = _get_current_span(ours.get_current, trace.get_current_span)
    replacements: list[tuple[Any, str, Any]] = [
        (context_api, "get_current", ours.get_current),
        (context_api, "set_value", _set_value(ours.get_current, context_api.set_value)),
        (context_api, "attach", ours.attach),
        (context_api, "detach", detach),
        (trace, "get_current_span", get_current_span),
    ]
    if getattr(sampling, "get_current_span", None) is trace.get_current_span:  # 1.30 to 1.45 at least
        replacements.append((sampling, "get_current_span", get_current_span))
    originals = [getattr(module, name) for module, name, _ in replacements]
    for module, name, replacement in replacements:
        setattr(module, name, replacement)

    def undo() -> None:
        # One of them alone would go past whoever replaced another after us.
        if all(getattr(module, name) is replacement for module, name, replacement in replacements):
            for (module, name, _), original in zip(replacements, originals, strict=True):
                setattr(module, name, original)

    return undo


def _get_current_span(
    get_current: Callable[[], Context], original: Callable[[Context | None], Span]
) -> Callable[[Context | None], Span]:
    @functools.wraps(original)
    def get_current_span(context: Context | None = None) -> Span:
        span: Any = (get_current() if context is None else context).get(CURRENT_SPAN)
        if span is None:
            return INVALID_SPAN
        return span if span.__class__ in _SPAN_CLASSES else original(context)

    return get_current_span


def _set_value(
    get_current: Callable[[], Context], original: Callable[[str, object, Context | None], Context]
) -> Callable[[str, object, Context | None], Context]:
    @functools.wraps(original)
    def set_value(key: str, value: object, context: Context | None = None) -> Context:
        return Context({**(get_current() if context is None else context), key: value})

    return set_value
