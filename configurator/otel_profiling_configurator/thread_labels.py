"""Makes each thread carry the labels of the span in its current context, and no others.

Pyroscope keeps labels by OS thread, and only the thread itself can change its own. So whoever notices that the current
context of a thread has changed calls `carry` or `refresh` on that thread. A label is removed by the exact pair it was added
with, and every sample pays for every label left behind: so what was written on a thread is remembered, and taken off when
the thread ends.

This runs on every attach, detach and task switch of the application; it is module-level and flat because of that.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from contextvars import Token
from typing import Any, Protocol

from opentelemetry.context import Context, get_current
from opentelemetry.trace import INVALID_SPAN, Span, set_span_in_context

from .guard import report
from .labels import NO_LABELS, Pairs, SpanLabels
from .os_threads import Local, get_ident

SPAN_ATTRIBUTE = "_otel_profiling_labels"
"""Attribute of a span object that holds its `SpanLabels`. Hot paths spell it out."""

(CURRENT_SPAN,) = set_span_in_context(INVALID_SPAN, Context())
"""Key of the current span in a context. Learnt through the API, which has no public name for it."""


NOT_OURS = SpanLabels(0, False, NO_LABELS)
"""Labels of every span that we did not start: an API-only one, or another provider's."""


class _NoSpan:
    """What a context without a span is taken to have, so that hot paths need not ask."""

    _otel_profiling_labels = NOT_OURS


NO_SPAN = _NoSpan()


class TagWriter(Protocol):
    """What writes labels on the calling thread: the agent, or a fake in tests."""

    def add_thread_tag(self, key: str, value: str, /) -> Any:
        """Add a label to the calling thread."""

    def remove_thread_tag(self, key: str, value: str, /) -> Any:
        """Remove a label, given exactly as it was added, from the calling thread."""


def _no_tag(_key: str, _value: str, /) -> None:
    """Stand in for the agent while there is none."""


_add_tag: Callable[[str, str], Any] = _no_tag
_remove_tag: Callable[[str, str], Any] = _no_tag


class _Written:
    """What is written on one thread. Dies with the thread, on the thread, and takes the labels off."""

    __slots__ = ("pairs", "remove_tag", "thread")

    def __init__(self) -> None:
        self.pairs: Pairs = NO_LABELS
        self.remove_tag = _remove_tag
        self.thread = get_ident()

    def __del__(self) -> None:
        # In a forked child the records of threads that don't exist there die on the thread that forked.
        if self.pairs and self.thread == get_ident():
            # Nothing can be raised to anybody here, nor be logged by a thread that is about to end.
            with contextlib.suppress(Exception):
                for key, value in self.pairs:
                    self.remove_tag(key, value)


class _OfThread(Local):  # type: ignore[misc] # a class found at run time
    """Thread-local: each OS thread finds its own record, made at its first look."""

    def __init__(self) -> None:
        self.written = _Written()


_of_thread = _OfThread()


def carry(context: Context) -> None:
    """Make the calling thread carry the labels of the span in `context`, or none if it has no span of ours.

    Never raises.
    """
    try:
        span: Any = context.get(CURRENT_SPAN, NO_SPAN)
        pairs = span._otel_profiling_labels.pairs
    except AttributeError:
        pairs = NO_LABELS  # a span that is none of the API's, or no context at all
    written = _of_thread.written
    if written.pairs is not pairs:
        _rewrite(written, pairs)


def refresh() -> None:
    """Make the calling thread carry the labels of its current context. Never raises."""
    carry(get_current())


def _rewrite(written: _Written, pairs: Pairs) -> None:
    old = written.pairs
    # First, so that the record is never short of a pair that was written: removing one that is not there is harmless.
    written.pairs = pairs
    try:
        if not old:
            written.remove_tag = _remove_tag
            for key, value in pairs:
                _add_tag(key, value)
        elif not pairs:
            for key, value in old:
                _remove_tag(key, value)
        else:
            for pair in old:
                if pair not in pairs:
                    _remove_tag(*pair)
            for pair in pairs:
                if pair not in old:
                    _add_tag(*pair)
    except Exception:  # noqa: BLE001 - called from inside the application's attach and detach
        report("label a thread")


def attaching(attach: Callable[[Context], Token[Context]]) -> Callable[[Context], Token[Context]]:
    """Return `attach`, having the labels follow the context that it makes current.

    Most attaches change no label (a child span's, a baggage entry's), most others put a root span's on a thread that has
    none: both are done right here, which is `carry` and `_rewrite` once more, without the calls.
    """

    def attach_and_follow(context: Context) -> Token[Context]:
        token = attach(context)
        try:
            span: Any = context.get(CURRENT_SPAN, NO_SPAN)
            pairs = span._otel_profiling_labels.pairs
            written = _of_thread.written
            if written.pairs is not pairs:
                if written.pairs:
                    _rewrite(written, pairs)
                else:  # a root span begins: what `_rewrite` would do
                    written.pairs = pairs
                    written.remove_tag = _remove_tag
                    for key, value in pairs:
                        _add_tag(key, value)
        except AttributeError:
            carry(context)
        except Exception:  # noqa: BLE001 - called from inside the application's attach
            report("label a thread")
        return token

    return attach_and_follow


def detaching(
    detach: Callable[[Token[Context]], None],
    get_current: Callable[[], Context],
    on_failure: Callable[[Token[Context]], None] | None = None,
) -> Callable[[Token[Context]], None]:
    """Return `detach`, having the labels follow the context that is current again; see `attaching`.

    Where `detach` raises, since the token is another context's, the current context stays as it is. `on_failure` is then
    called with the token; without it, the exception goes to the caller.
    """

    def detach_and_follow(token: Token[Context]) -> None:
        try:
            detach(token)
        except Exception:
            if on_failure is None:
                raise
            on_failure(token)
            return
        context = get_current()
        try:
            span: Any = context.get(CURRENT_SPAN, NO_SPAN)
            pairs = span._otel_profiling_labels.pairs
            written = _of_thread.written
            if written.pairs is not pairs:
                if pairs:
                    _rewrite(written, pairs)
                else:  # a root span ends: what `_rewrite` would do
                    old, written.pairs = written.pairs, NO_LABELS
                    for key, value in old:
                        _remove_tag(key, value)
        except AttributeError:
            carry(context)
        except Exception:  # noqa: BLE001 - called from inside the application's detach
            report("label a thread")

    return detach_and_follow


def forget() -> None:
    """Forget what was written on all threads: a new agent has started, and it begins without labels."""
    global _of_thread  # noqa: PLW0603 - replaced as a whole: no thread can reach another one's record
    _of_thread = _OfThread()


def install(writer: TagWriter) -> Callable[[], None]:
    """Write labels through `writer` from now on; return what ends that and takes them off the calling thread.

    Labels of other threads stay until those threads end: only they could remove them.
    """
    global _add_tag, _remove_tag
    _add_tag, _remove_tag = writer.add_thread_tag, writer.remove_thread_tag
    # For the spans of all providers: an exception for each that is not ours would cost more than the rest.
    setattr(Span, SPAN_ATTRIBUTE, NOT_OURS)

    def undo() -> None:
        global _add_tag, _remove_tag  # noqa: PLW0603 - as above
        carry(Context())
        if SPAN_ATTRIBUTE in vars(Span):
            delattr(Span, SPAN_ATTRIBUTE)
        _add_tag = _remove_tag = _no_tag

    return undo
