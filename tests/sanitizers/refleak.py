"""Counts all references of a debug CPython over many switches: what the native module forgets to give back is seen here.

Run by ``make native-refleak``. Each case is repeated; after a few rounds, in which caches fill, the count must not grow.
"""

from __future__ import annotations

import contextlib
import contextvars
import gc
import sys
import threading
from collections.abc import Callable
from typing import Any

import opentelemetry.context as context_api
from opentelemetry.baggage import set_baggage
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context
from otel_profiling_configurator.context import following, labelling
from otel_profiling_configurator.native import native, why_missing
from otel_profiling_configurator.spans.labels import LabelRules

ROUNDS, WARM, TIMES = 12, 6, 200
"""Rounds of each case, those that may still fill caches, and how often a case is repeated in one."""

ALLOWED = 20
"""References that a round may end with more than another one; a leak of one a repetition is ten times as many."""


class Writer:
    """Writes no labels anywhere."""

    def add_thread_tag(self, _key: str, _value: str) -> None: ...

    def remove_thread_tag(self, _key: str, _value: str) -> None: ...


def request(number: int) -> Any:
    span_context = SpanContext(1, number + 1, False, TraceFlags(TraceFlags.SAMPLED))
    span: Any = NonRecordingSpan(span_context)
    span._otel_profiling_labels = LabelRules().of_local_root(span_context, "GET /")
    return set_baggage("tenant", number, set_span_in_context(span, context_api.Context()))


def attach_and_detach() -> None:
    for number in range(3):
        context_api.detach(context_api.attach(request(number)))


def run_contexts() -> None:
    context = contextvars.copy_context()
    context.run(context_api.attach, request(1))
    context.run(attach_and_detach)
    with contextlib.suppress(RuntimeError):
        context.run(context.run, int)
    with contextlib.suppress(ZeroDivisionError):
        context.run(lambda: 1 / 0)


def own_tags() -> None:
    token = context_api.attach(request(1))
    native.set_own_tags((("job", "nightly"),))
    native.own_tags()
    native.set_own_tags(())
    context_api.detach(token)


def threads() -> None:
    for target in (run_contexts, lambda: context_api.attach(request(2))):
        thread = threading.Thread(target=target)
        thread.start()
        thread.join()


def agents() -> None:
    token = context_api.attach(request(1))
    labelling.agent_stopped()
    labelling.agent_started(Writer(), aliases=True)
    context_api.detach(token)
    native.counts()
    native.mode()


def start_and_stop() -> None:
    undo, why_python = following.install()
    assert not why_python, why_python
    attach_and_detach()
    undo()


def references() -> int:
    gc.collect()
    return int(sys.gettotalrefcount())  # type: ignore[attr-defined] # of a debug build


def check(case: Callable[[], None]) -> bool:
    """Whether the last rounds of a case have left no reference behind."""
    counts = []
    for _ in range(ROUNDS):
        for _ in range(TIMES):
            case()
        counts.append(references())
    grown = [after - before for before, after in zip(counts[WARM:], counts[WARM + 1 :], strict=False)]
    leaks = min(grown) > ALLOWED
    print(f"{case.__name__:20} {'LEAKS ' if leaks else 'flat  '} {grown}")
    return not leaks


def main() -> None:
    assert not why_missing, why_missing
    undo_labels = labelling.install(Writer(), {"tenant": "tenant"})
    results = [check(start_and_stop)]
    undo, _ = following.install()
    labelling.agent_started(Writer(), aliases=True)
    results += [check(case) for case in (attach_and_detach, run_contexts, own_tags, threads, agents)]
    undo()
    undo_labels()
    sys.exit(not all(results))


main()
