"""Leaves on a span that has just been started what its samples shall be labelled with.

Labels are an attribute of the span object: whoever finds that span current finds them. A descendant has the same object as its
local root, where the scopes allow it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import opentelemetry.context as context_api
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import NonRecordingSpan, Span, SpanContext, SpanKind

from ..guard import is_of_signal_handler, report
from . import local_roots
from .labels import CURRENT_SPAN, NO_SPAN, NOT_OURS, SAMPLED, SPAN_ATTRIBUTE, LabelRules, SpanLabels
from .profile_id import set_profile_id
from .renames import follow_renames, followed

_ARGUMENTS = ("name", "context", "kind")
"""The first arguments of the API's `start_span`."""

SERVER, CONSUMER = SpanKind.SERVER, SpanKind.CONSUMER

SPAN_ID, IS_VALID = 1, 5
"""Places in a `SpanContext`, which is a tuple: its properties are Python functions, and cost like them."""


def annotate(
    rules: LabelRules,
    span: Any,
    span_context: SpanContext,
    name: Any,
    kind: object,
    command: bool,
    parent_span: Any,
    parent: SpanLabels,
) -> None:
    """Label `span`, which has just been started below `parent_span`, whose labels are `parent`.

    Args:
        rules: Which labels spans get.
        span: Any span of the API's.
        span_context: Its own.
        name: What it was called.
        kind: Its `SpanKind`.
        command: Whether it is that of a whole command; see `local_roots`.
        parent_span: `NO_SPAN` if there is none.
        parent: `NOT_OURS` if it has none.
    """
    if not span_context[IS_VALID]:
        return  # of a tracer that is switched off: it may be the span that everybody shares
    this_process = local_roots.this_process
    if parent_span is not NO_SPAN:
        if parent_span.__class__ is NonRecordingSpan:  # a remote one, most of the time
            parent_id: Any = parent_span._context[SPAN_ID]
        else:  # tracers take what is no span for no parent
            parent_id = parent_span.get_span_context()[SPAN_ID] if isinstance(parent_span, Span) else None
        if parent_id == span_context[SPAN_ID]:
            # A tracer that is switched off hands its parent on, under the same identity: its work is the parent's.
            if parent.owner:
                span._otel_profiling_labels = parent
            return
        if parent.process is not this_process and parent.process is not None:
            parent = NOT_OURS  # started before the fork that made this process: as good as a remote one
    serves = parent.serves or kind is SERVER or kind is CONSUMER
    process = None if command else this_process  # those below a command are nobody's descendants
    if parent.process is not this_process or serves is not parent.serves:
        span._otel_profiling_labels = labels = rules.of_local_root(span_context, name, process, serves)
        profile_id = labels.values[1]
    elif not command and rules.descendants_share and not (parent.trace_flags ^ span_context.trace_flags) & SAMPLED:
        span._otel_profiling_labels = parent
        return
    else:
        span._otel_profiling_labels = labels = rules.of_descendant(parent, span_context, name, process)
        profile_id = labels.values[1] if rules.own_span_ids else ""
    if profile_id:
        set_profile_id(span, profile_id)


def annotate_usual(rules: LabelRules, tracer: Any, span: Any, name: Any, context: Context | None, kind: object) -> None:
    """Label `span`, which a tracer of the SDK has just started with these arguments."""
    try:
        parent_span: Any = (context_api.get_current() if context is None else context).get(CURRENT_SPAN, NO_SPAN)
        parent = parent_span._otel_profiling_labels  # `NOT_OURS`, of the class, where the span is a remote one
        command = tracer._instrumentation_scope._name == local_roots.COMMANDS
        span_context = span._context
    except Exception as error:  # noqa: BLE001 - a context that is none, another SDK's names
        annotate_unusual(rules, tracer, span, name, context, kind, error)
    else:
        annotate(rules, span, span_context, name, kind, command, parent_span, parent)


def find_parent(context: Context | None) -> tuple[Any, SpanLabels]:
    """Return the current span of a context, as tracers find it, and its labels; `NO_SPAN` and its labels if there is none."""
    span: Any = trace.get_current_span(context)
    if span is trace.INVALID_SPAN:
        return NO_SPAN, NOT_OURS
    return span, getattr(span, SPAN_ATTRIBUTE, NOT_OURS)


def annotate_unusual(
    rules: LabelRules, tracer: Any, span: Any, name: Any, context: Context | None, kind: object, raised: Exception | None = None
) -> None:
    """Label `span`, which may be of any class, as may be its parent and `context`.

    Args:
        raised: What came up when its parent was looked for in the usual way; raised again if it is a signal handler's.
    """
    try:
        # What was raised right in our own function has no traceback below that.
        if raised is not None and raised.__traceback__ is not None and raised.__traceback__.tb_next is not None:
            raise_if_of_signal_handler(raised)
    finally:
        del raised  # its traceback has the application's frames
    annotate(rules, span, span.get_span_context(), name, kind, local_roots.is_command(tracer), *find_parent(context))
    if span.__class__ not in followed and getattr(span, SPAN_ATTRIBUTE, NOT_OURS).owner:
        follow_renames(span.__class__)


def annotating_any(start_span: Callable[..., Span], rules: LabelRules, tracer: Any = None) -> Callable[..., Span]:
    """Return any tracer's `start_span`, whatever its arguments are, labelling what it has started unless somebody has already.

    Args:
        start_span: A function or bound method that has the arguments of the API's, and perhaps others.
        rules: Which labels spans get.
        tracer: Whose it is, if that is not its first argument.
    """
    arguments_before = 0 if tracer is not None else 1

    @functools.wraps(start_span)
    def annotating(*args: Any, **kwargs: Any) -> Span:
        span = start_span(*args, **kwargs)
        try:
            if not getattr(span, SPAN_ATTRIBUTE, NOT_OURS).owner:
                api = args[arguments_before:]
                name, context, kind = (
                    api[place] if place < len(api) else kwargs.get(argument) for place, argument in enumerate(_ARGUMENTS)
                )
                name = getattr(span, "name", "") if name is None else name  # the argument may be called something else
                annotate_unusual(rules, args[0] if tracer is None else tracer, span, name, context, kind)
        except Exception:  # noqa: BLE001 - called from inside the application's start_span
            report("annotate a span")
        return span

    return annotating


def raise_if_of_signal_handler(error: Exception) -> None:
    """Raise `error` again if a signal handler of the application's raised it in the midst of our work."""
    try:
        raise error
    except Exception:
        if is_of_signal_handler():
            raise
    finally:
        del error
