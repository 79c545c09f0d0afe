"""Makes each thread carry the labels of the span in its current context, and no others.

Pyroscope keeps labels by OS thread, and only the thread itself can change its own. So whoever notices that the current
context of a thread has changed calls `carry` or `refresh` on that thread. A label is removed by the exact pair it was added
with, and every sample pays for every label left behind: so what was written on a thread is remembered, and taken off when
the thread ends.

The agent takes the labels that a thread has some 0.2 ms after it has read the thread's stack. Where the module in C can lead
it to that, it takes those of the very moment (`use_stand_ins`); elsewhere a change may have to wait (`sampler`).

This runs on every attach, detach and task switch of the application; it is module-level and flat because of that. What it does
nearly each time is there in C as well (`_thread_labels.c`), and done there where that was built.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from contextvars import ContextVar, Token
from time import monotonic
from typing import Any, Protocol

import opentelemetry.context as context_api
from opentelemetry.context import Context
from opentelemetry.trace import INVALID_SPAN, Span, set_span_in_context

from .. import sampler
from ..guard import report
from ..sampler import Account, may_change
from ..spans.baggage_labels import BAGGAGE, Pairs, baggage_labels
from ..spans.labels import KEYS, NO_LABELS, SPAN_ID, SPAN_NAME, TRACE_ID, SpanLabels, Values, span_labels  # noqa: F401 - one for the form in C
from .os_threads import Local, get_ident

SPAN_ATTRIBUTE = "_otel_profiling_labels"
"""Attribute of a span object that holds its `SpanLabels`. Hot paths spell it out."""

(CURRENT_SPAN,) = set_span_in_context(INVALID_SPAN, Context())
"""Key of the current span in a context. Learnt through the API, which has no public name for it."""


NOT_OURS = span_labels(0, False, NO_LABELS)
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


def _nothing() -> None:
    """Be called where nobody wants to be."""


_on_end: Callable[[], None] = _nothing
"""What is called when stand-ins turn out to be of no use with this agent."""

_NO_NAMES: Mapping[str, str] = {}
_baggage_names = _NO_NAMES


class _Written(Account):
    """What is written on one thread. Dies with the thread, on the thread, and takes the labels off."""

    __slots__ = ("baggage", "baggage_labels", "followers", "loops", "remove_tag", "thread", "values")

    def __init__(self) -> None:
        super().__init__()
        self.values = NO_LABELS
        self.baggage: object = None
        """The baggage that `baggage_labels` were made of: as long as it is the same object, so are they."""
        self.baggage_labels: Pairs = ()
        self.followers = _followers
        """The `_followers` that have been called on this thread."""
        self.loops = 0
        """How many event loops it runs, whose every step is heard of: labels to be taken off may stay until the next."""
        self.remove_tag = _remove_tag
        self.thread = get_ident()

    def __del__(self) -> None:
        # In a forked child the records of threads that don't exist there die on the thread that forked.
        if self.thread == get_ident():
            # Nothing can be raised to anybody here, nor be logged by a thread that is about to end.
            with contextlib.suppress(Exception):
                if _in_c is None or not _in_c.take_off(self, self.remove_tag):
                    _remove_all(_pairs(self.values) + self.baggage_labels, self.remove_tag)


class _OfThread(Local):  # type: ignore[misc] # a class found at run time
    """Thread-local: each OS thread finds its own record, made at its first look."""

    def __init__(self) -> None:
        self.written = _Written()
        for follow_thread in _followers:
            follow_thread()


_followers: tuple[Callable[[], None], ...] = ()
"""What is called once on each thread: replaced, never changed."""

_of_thread = _OfThread()


def carry_in_python(context: Context) -> None:
    """Make the calling thread carry the labels of the span in `context`, or none if it has no span of ours.

    Never raises.
    """
    try:
        span: Any = context.get(CURRENT_SPAN, NO_SPAN)
        values = span._otel_profiling_labels.values
    except AttributeError:
        values = NO_LABELS  # a span that is none of the API's, or no context at all
    written = _of_thread.written
    if written.values is not values:
        _change(written, values)
    if _baggage_names and written.values is values:
        baggage = None if values is NO_LABELS else context.get(BAGGAGE)
        if written.baggage is not baggage:
            _rewrite_baggage(written, baggage)


def refresh_in_python() -> None:
    """Make the calling thread carry the labels of its current context. Never raises."""
    carry(context_api.get_current())


def enter_loop() -> None:
    """Say that the calling thread begins to run an event loop."""
    _of_thread.written.loops += 1


def leave_loop() -> None:
    """Say that an event loop of the calling thread has ended, and make the thread carry the labels of its current context."""
    written = _of_thread.written
    written.loops = max(0, written.loops - 1)
    written.pace = sampler.LONG_AGO  # nothing is put off here: the next switch may be long in coming
    refresh()


def on_each_thread(follow_thread: Callable[[], None]) -> Callable[[], None]:
    """Call `follow_thread` on this thread now, and on every other one when its labels next change; return what ends that.

    It may be called again on a thread, and must not raise.
    """
    global _followers  # noqa: PLW0603 - threads that have records see by its identity that there is another one
    _followers = (*_followers, follow_thread)
    _share()
    follow_thread()

    def undo() -> None:
        global _followers  # noqa: PLW0603 - as above
        _followers = tuple(follower for follower in _followers if follower is not follow_thread)
        _share()

    return undo


def _follow_thread(written: _Written) -> None:
    written.followers = _followers
    for follow_thread in _followers:
        follow_thread()


def _change(written: _Written, values: Values) -> None:
    """Write `values` on the calling thread, unless they are to be put off; in C where no follower is new."""
    if _in_c is not None and _in_c.change_if_stand_ins(written, values):
        return
    old = written.values
    now = monotonic()
    if now >= written.next_look:
        if written.followers is not _followers:
            _follow_thread(written)
        if not may_change(written, now, old is not NO_LABELS and (values is not NO_LABELS or written.loops > 0)):
            return
        old = written.values  # what ran meanwhile, a signal handler or a destructor, may have changed it
    written.values = values
    old_trace, old_span, old_name = old
    trace, span, name = values
    try:
        if old is NO_LABELS:
            if trace:
                _add_tag(TRACE_ID, trace)
            if span:
                _add_tag(SPAN_ID, span)
            if name:
                _add_tag(SPAN_NAME, name)
            written.remove_tag = _remove_tag
        elif values is NO_LABELS:
            if old_trace:
                _remove_tag(TRACE_ID, old_trace)
            if old_span:
                _remove_tag(SPAN_ID, old_span)
            if old_name:
                _remove_tag(SPAN_NAME, old_name)
        else:
            if old_trace != trace:
                if old_trace:
                    _remove_tag(TRACE_ID, old_trace)
                if trace:
                    _add_tag(TRACE_ID, trace)
            if old_span != span:
                if old_span:
                    _remove_tag(SPAN_ID, old_span)
                if span:
                    _add_tag(SPAN_ID, span)
            if old_name != name:
                if old_name:
                    _remove_tag(SPAN_NAME, old_name)
                if name:
                    _add_tag(SPAN_NAME, name)
    except BaseException as error:  # noqa: BLE001 - raised again where it is not ours
        _change_failed(written, old, values, error)


def _change_failed(written: _Written, old: Values, values: Values, error: BaseException) -> None:
    written.values = NO_LABELS
    _take_back(_pairs(old) + _pairs(values), error, "label a thread")


def _take_back(pairs: Pairs, error: BaseException, where: str) -> None:
    """Leave nothing behind of a change of labels that came no further.

    An `Exception` is the writer's. Any other comes from a signal handler, between two labels: it is raised again.
    """
    _remove_all(pairs, _remove_tag)
    try:
        raise error
    except Exception:  # noqa: BLE001 - called from inside the application's attach and detach
        report(where)


def _rewrite_baggage(written: _Written, baggage: object) -> None:
    old = written.baggage_labels
    try:
        new = baggage_labels(baggage, _baggage_names)
    except Exception:  # noqa: BLE001 - the application's values are made into text here, by their own code
        new = ()
        report("read the baggage")
    written.baggage, written.baggage_labels = baggage, new
    try:
        for key, value in old:
            if (key, value) not in new:
                _remove_tag(key, value)
        for key, value in new:
            if (key, value) not in old:
                _add_tag(key, value)
    except BaseException as error:  # noqa: BLE001 - raised again where it is not ours
        written.baggage, written.baggage_labels = None, ()
        _take_back(old + new, error, "label a thread with baggage")


def _pairs(values: Values) -> Pairs:
    return tuple((key, value) for key, value in zip(KEYS, values, strict=True) if value)


def _remove_all(pairs: Pairs, remove_tag: Callable[[str, str], Any]) -> None:
    """Take `pairs` off the calling thread; those that are not there do no harm."""
    for key, value in pairs:
        with contextlib.suppress(Exception):
            remove_tag(key, value)


class FollowingInPython:
    """A callback that first has the labels follow the context in which it is called."""

    __slots__ = ("__wrapped__",)

    def __init__(self, callback: Callable[..., Any]) -> None:
        self.__wrapped__ = callback  # where `inspect` and asyncio's debug mode look for a name

    def __call__(self, *args: Any) -> Any:
        """Follow, and call it."""
        refresh()
        return self.__wrapped__(*args)

    def __repr__(self) -> str:
        return repr(self.__wrapped__)


def _is_called() -> bool:
    """Whether `carry` is to be called: what it does is more than what fits in its place, or in C."""
    return bool(_baggage_names) or carry is not carry_in_python


def attaching(attach: Callable[[Context], Token[Context]]) -> Callable[[Context], Token[Context]]:
    """Return `attach`, having the labels follow the context that it makes current.

    Most attaches change no label (a child span's, a baggage entry's): what `carry` does in Python is done right here, without
    the call.
    """
    if _in_c is not None and carry is _in_c.carry:
        return _in_c.attaching(attach)
    if _is_called():

        def attach_and_carry(context: Context) -> Token[Context]:
            token = attach(context)
            carry(context)
            return token

        return attach_and_carry

    def attach_and_follow(context: Context) -> Token[Context]:
        token = attach(context)
        try:
            span: Any = context.get(CURRENT_SPAN, NO_SPAN)
            values = span._otel_profiling_labels.values
        except AttributeError:
            carry(context)
            return token
        written = _of_thread.written
        if written.values is not values:
            _change(written, values)
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
    if _in_c is not None and carry is _in_c.carry:
        return _in_c.detaching(detach, get_current, on_failure)
    call = _is_called()

    def detach_and_follow(token: Token[Context]) -> None:
        try:
            detach(token)
        except Exception:
            if on_failure is None:
                raise
            on_failure(token)
            return
        context = get_current()
        if call:
            carry(context)
            return
        try:
            span: Any = context.get(CURRENT_SPAN, NO_SPAN)
            values = span._otel_profiling_labels.values
        except AttributeError:
            carry(context)
            return
        written = _of_thread.written
        if written.values is not values:
            _change(written, values)

    return detach_and_follow


def running(run: Callable[[Any], Any], current_context: ContextVar[Context]) -> Callable[[Any], Any]:
    """Return `run`, a method of what is to be run in its ``_context``, having the labels first follow that; see `attaching`.

    Args:
        run: The method.
        current_context: What holds OpenTelemetry's context in a context of Python's, which need not be entered to look there.
    """
    no_context = Context()
    if _is_called():

        def carry_and_run(self: Any) -> Any:
            carry(self._context.get(current_context, no_context))
            return run(self)

        return carry_and_run

    def follow_and_run(self: Any) -> Any:
        context = self._context.get(current_context, no_context)
        try:
            span: Any = context.get(CURRENT_SPAN, NO_SPAN)
            values = span._otel_profiling_labels.values
        except AttributeError:
            carry(context)
            return run(self)
        written = _of_thread.written
        if written.values is not values:
            _change(written, values)
        return run(self)

    return follow_and_run


def forget() -> None:
    """Forget what was written on all threads: a new agent has started, and it begins without labels."""
    global _of_thread  # noqa: PLW0603 - replaced as a whole: no thread can reach another one's record
    if _in_c is not None:
        _in_c.forget_threads()
    _of_thread = _OfThread()
    _share()


def use_stand_ins(agent: object, worn_seconds: float = 3.0, on_end: Callable[[], None] = _nothing) -> bool:
    """Have samples say by themselves whose labels they get (see `_stand_ins.h`); return whether that is possible here.

    It is on Linux, where `_thread_labels` was built. Then nothing needs to be followed by the clock, see `sampler`. Labels of
    baggage, which are written by thread, have no stand-ins yet.

    Args:
        agent: The native module of the agent that begins, by whose file the library is found. It must not report ids or names
            of threads.
        worn_seconds: CPU time of threads with labels after which a sample must have been seen. If none was, this agent samples
            otherwise, and no label would be found: then they are left.
        on_end: Called after that, by a thread that changes its labels.
    """
    global _on_end  # noqa: PLW0603 - the agent is the process's
    path = getattr(agent, "__file__", None)
    if _in_c is None or carry is not _in_c.carry or _baggage_names or not isinstance(path, str):
        return False
    _on_end = on_end
    return _in_c.use_stand_ins(path, worn_seconds)


def _label_by_thread(written: _Written, values: Values) -> None:
    """Leave stand-ins, which no sample asks for, and write `values` on the calling thread instead of those of `written`."""
    try:
        is_end = leave_stand_ins()
        try:
            written.values = NO_LABELS  # its end, which is near, takes nothing off
            _change(_of_thread.written, values)
        finally:
            if is_end:
                _on_end()
    except Exception:  # noqa: BLE001 - called from inside the application's attach and detach
        report("label by thread")


def leave_stand_ins() -> bool:
    """Label samples by their thread again, whose labels are written when they next change; return whether they were not."""
    return _in_c is not None and _in_c.leave_stand_ins(_OfThread(), _remove_tag)


def install(writer: TagWriter, baggage_names: Mapping[str, str] = _NO_NAMES) -> Callable[[], None]:
    """Write labels through `writer` from now on; return what ends that and takes them off the calling thread.

    Labels of other threads stay until those threads end: only they could remove them.

    Args:
        writer: The agent.
        baggage_names: Key of a baggage entry to the name of the label that it becomes, where the context has a span of ours.
    """
    global _add_tag, _remove_tag, _baggage_names  # noqa: PLW0603 - hot paths find them where a module's names are found
    _baggage_names = baggage_names
    _add_tag, _remove_tag = writer.add_thread_tag, writer.remove_thread_tag
    _share()
    # For the spans of all providers: an exception for each that is not ours would cost more than the rest.
    setattr(Span, SPAN_ATTRIBUTE, NOT_OURS)

    def undo() -> None:
        global _add_tag, _remove_tag, _baggage_names  # noqa: PLW0603 - as above
        carry(Context())
        leave_stand_ins()
        _baggage_names = _NO_NAMES
        if SPAN_ATTRIBUTE in vars(Span):
            delattr(Span, SPAN_ATTRIBUTE)
        _add_tag = _remove_tag = _no_tag
        _share()

    return undo


def _share() -> None:
    """Tell the form in C what the names of this module mean now."""
    if _in_c is not None:
        _in_c.use(globals(), vars(context_api))


# What everybody calls.
carry: Callable[[Context], None] = carry_in_python
refresh: Callable[[], None] = refresh_in_python
following: Callable[[Callable[..., Any]], Callable[..., Any]] = FollowingInPython

try:
    from .. import _thread_labels as _in_c
except ImportError:  # it was not built: no compiler, or a tree for all Pythons
    _in_c = None  # type: ignore[assignment] # as said
else:
    _share()
    carry, refresh, following = _in_c.carry, _in_c.refresh, _in_c.following
