"""Has the label ``span_name`` follow `update_name`, so that a route which is resolved late still names the work."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from opentelemetry.trace import NonRecordingSpan, Span

from ..guard import report
from .labels import NOT_OURS, SPAN_ATTRIBUTE, SpanLabels, label_value, rename

_OURS = "_otel_profiling"
"""Attribute that marks an `update_name` of ours, or of another import of this package."""

_relabel: Callable[[], None] | None = None
"""Labels the calling thread anew, whose span may have another name now."""

followed: dict[type, Callable[[], None]] = {}
"""Span classes whose `update_name` we see, and what ends that."""


def follow_renames(span_class: type) -> None:
    """Have `update_name` of this class's spans rename their labels.

    On the class, once: anything on the instance would cost every span, and a reference cycle too.
    """
    owner = next(base for base in span_class.__mro__ if "update_name" in vars(base))
    if owner is not span_class:
        if owner not in followed:
            follow_renames(owner)
        followed[span_class] = _nothing
        return
    original = vars(owner)["update_name"]
    if getattr(original, _OURS, False) is True:
        followed[owner] = _nothing  # the first import of this package does it
        return

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

    setattr(update_name, _OURS, True)
    try:
        owner.update_name = update_name  # type: ignore[attr-defined] # a class found at run time
    except TypeError:
        undo = _nothing  # a class made in C: its spans keep the name they were started with
    followed[owner] = undo


def when_renamed(relabel: Callable[[], None] | None) -> None:
    """Call `relabel` on a thread that has given a span another name; None for nothing."""
    global _relabel  # noqa: PLW0603 - the process's
    _relabel = relabel


def unfollow_all() -> None:
    """Give all classes their own `update_name` back."""
    for stop_following in followed.values():
        stop_following()
    followed.clear()


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
    rename(labels, label_value(getattr(span, "name", name)))
    if _relabel is not None:
        _relabel()
