"""Tells profilers outside the process whose work each thread does, and of which service it is: OpenTelemetry's thread context
and process context (enhancement proposals 4947 and 4719).

The native module has a record for each label set, and exchanges a thread's pointer to it on each switch. This says what the
records' attributes are called, and publishes the resource.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from opentelemetry.sdk.trace import TracerProvider as SdkProvider

from ..guard import guarded
from ..native import native
from ..spans.labels import SPAN_NAME
from .process_context import process_context

PROCESS_ID = "process.pid"

_keys: list[str] = []
"""Names of the attributes by their index. They only grow, as long as the process lives: readers remember them."""

_publish_again: Callable[[], None] | None = None


def install(provider: Any, baggage_labels: Iterable[str]) -> Callable[[], None]:
    """Publish both from now on; to be called where the native module follows switches.

    Args:
        provider: The tracer provider whose resource is published. A resource that replaces it is published when the next span
            begins, if the provider is the SDK's.
        baggage_labels: Names of the labels that are made of baggage.

    Returns:
        What ends it.

    Raises:
        RuntimeError: There are no such readers on this system: it is not Linux.
    """
    global _publish_again  # noqa: PLW0603 - a process has one such context
    _keys.extend(name for name in (SPAN_NAME, *baggage_labels) if name not in _keys)
    keys = tuple(_keys)
    process = os.getpid()
    inner = getattr(provider, "__wrapped__", provider)

    def publish() -> None:
        attributes: Mapping[str, Any] = getattr(getattr(inner, "resource", None), "attributes", None) or {}
        if attributes.get(PROCESS_ID) == process:
            attributes = {**attributes, PROCESS_ID: os.getpid()}  # it may still name the one that forked this one
        native.publish_process_context(process_context(attributes, keys))

    native.use_thread_contexts(
        keys, inner if isinstance(inner, SdkProvider) else None, guarded("publish the process context")(publish)
    )
    publish()
    _publish_again = publish

    def undo() -> None:
        global _publish_again  # noqa: PLW0603 - as above
        _publish_again = None
        native.drop_process_context()
        native.leave_thread_contexts()

    return undo


def after_fork_in_child() -> None:
    """Publish what is the child's: the parent's mapping is not here. Nothing may log."""
    if _publish_again is not None:
        _publish_again()
