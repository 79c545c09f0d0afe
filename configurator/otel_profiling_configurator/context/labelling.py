"""What the calling thread's samples are labelled with: the label set of the span in its current OpenTelemetry context.

The native module does it where it is in use: it follows each switch, and has samples find the label set by an alias. This
module says which form is in use, and has the plain form of the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import opentelemetry.context as context_api
from opentelemetry.context import Context

from ..guard import report
from ..native import native
from ..spans import renames
from ..spans.baggage_labels import BAGGAGE, baggage_labels
from ..spans.labels import CURRENT_SPAN, KEYS, NO_SPAN, NOT_OURS, SpanLabels
from ..threads import by_thread
from ..threads.by_thread import Pairs, TagWriter
from ..threads.os_threads import get_ident

READING_REFUSED = "process_vm_readv is refused here"
"""What `why_by_thread` says where the agent can't read its own process by that call, as the native module has it."""

_NO_NAMES: Mapping[str, str] = {}
_baggage_names = _NO_NAMES
_read_now: set[tuple[int, int]] = set()
"""Baggage that is being made into labels: by which thread, and which."""
_is_native = False
_why_by_thread = ""
_aliases_wanted = True


def follow(context: Context) -> None:
    """Label the calling thread, in Python, for the span of this context. Never raises what is ours."""
    try:
        span: Any = context.get(CURRENT_SPAN, NO_SPAN)
        labels = span._otel_profiling_labels
    except AttributeError:
        labels = NOT_OURS  # a span that is none of the API's, or no context at all
    pairs: Pairs = ()
    if isinstance(labels, SpanLabels) and labels.owner:  # there are spans that have any attribute
        pairs = tuple((key, value) for key, value in zip(KEYS, labels.values, strict=True) if value)
        if _baggage_names:
            pairs += pairs_of_baggage(context.get(BAGGAGE))
    by_thread.label(pairs)


def pairs_of_baggage(baggage: object) -> Pairs:
    """Return the labels made of a context's baggage; none, after a report, where its values can't be made into text."""
    reading = get_ident(), id(baggage)
    if reading in _read_now:
        return ()  # a value's own code has attached a span, or detached one, so that this context is followed once more
    _read_now.add(reading)
    try:
        return baggage_labels(baggage, _baggage_names)
    except Exception:  # noqa: BLE001 - the application's values are made into text here, by their own code
        report("read the baggage")
        return ()
    finally:
        _read_now.discard(reading)


def refresh() -> None:
    """Label the calling thread for its current context: the labels of the span in it may have changed."""
    if _is_native:
        native.refresh()
    else:
        follow(context_api.get_current())


def baggage_is_labelled() -> bool:
    """Whether any entry of the baggage becomes a label."""
    return bool(_baggage_names)


def use_native(is_native: bool) -> None:
    """Say whether the native module follows each switch."""
    global _is_native  # noqa: PLW0603 - the form is the process's
    _is_native = is_native


def agent_started(writer: TagWriter, *, aliases: bool) -> None:
    """Label the samples of an agent that has just started, and so has no labels yet.

    Args:
        writer: The native module of the agent, or what stands for it.
        aliases: Whether its samples may have aliases: it reports no ids of threads, and labels samples at all.
    """
    global _why_by_thread  # noqa: PLW0603 - the agent is the process's
    by_thread.forget()
    if _is_native:
        _why_by_thread = native.use_agent(writer.add_thread_tag, writer.remove_thread_tag, aliases and _aliases_wanted)
    refresh()


def use_cpu_clocks(writer: TagWriter, rate: int) -> bool:
    """Have an agent that is about to start sample threads by their CPU clocks; return whether it will.

    Args:
        writer: The native module of the agent.
        rate: Samples a second of CPU time; 0 to leave it to the agent whom it samples.
    """
    return _is_native and native.use_cpu_clocks(writer.add_thread_tag, rate if _aliases_wanted else 0)


def agent_stopped() -> None:
    """Label nothing any more: the agent has stopped."""
    by_thread.forget()
    if _is_native:
        native.leave_agent(False)


def after_fork_in_child() -> None:
    """Forget the parent's other threads, and its agent."""
    by_thread.forget()
    if native is not None:
        native.after_fork_in_child()


def give_up_aliases_if_unseen() -> bool:
    """Keep labels by thread where the agent turns out to read threads in another way; return whether it does."""
    global _aliases_wanted, _why_by_thread  # noqa: PLW0603 - the agent is the process's
    if not (_is_native and native.is_unseen()):
        return False
    _aliases_wanted = False
    native.by_thread()
    _why_by_thread = "the agent reads threads in another way"
    refresh()
    return True


def why_by_thread() -> str:
    """Return why labels are kept by thread; empty where samples get aliases."""
    return _why_by_thread if _is_native else "contexts are followed in Python"


def tag_of_application(add: bool, key: str, value: str) -> None:
    """Have samples of the calling thread carry a tag that the application has just added, or no more: an alias hides it."""
    if _is_native and native.mode() == "aliases":
        own = tuple(pair for pair in native.own_tags() if pair != (key, value))
        native.set_own_tags((*own, (key, value)) if add else own)


def install(writer: TagWriter, baggage_names: Mapping[str, str] = _NO_NAMES, *, aliases: bool = True) -> Callable[[], None]:
    """Write labels through `writer` from now on; return what ends that and removes them from the calling thread.

    Args:
        writer: The agent.
        baggage_names: Key of a baggage entry to the name of the label that it becomes, where the context has a span of ours.
        aliases: Whether the agent's library may be led to aliases.
    """
    global _baggage_names, _aliases_wanted
    _baggage_names, _aliases_wanted = baggage_names, aliases
    undo_labels = by_thread.install(writer)
    renames.when_renamed(refresh)

    def undo() -> None:
        global _baggage_names  # noqa: PLW0603 - as above
        renames.when_renamed(None)
        undo_labels()
        _baggage_names = _NO_NAMES

    return undo
