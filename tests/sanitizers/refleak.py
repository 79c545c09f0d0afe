"""Counts all references of a debug CPython over many switches: what the native module forgets to give back is seen here.

Run by ``make native-refleak``. Each case is repeated; after a few rounds, in which caches fill, the count must not grow.
"""

from __future__ import annotations

import contextlib
import contextvars
import copy
import gc
import pickle
import sys
import threading
from collections.abc import Callable
from typing import Any

import opentelemetry.context as context_api
from opentelemetry.baggage import set_baggage
from opentelemetry.context import Context
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, TraceFlags, set_span_in_context
from otel_profiling_configurator.context import following, labelling
from otel_profiling_configurator.native import native, why_missing
from otel_profiling_configurator.spans import sdk_tracers
from otel_profiling_configurator.spans.labels import LabelRules

ROUNDS, WARM, TIMES = 12, 6, 200
"""Rounds of each case, those that may still fill caches, and how often a case is repeated in one."""

ALLOWED = 20
"""References that a round may end with more than another one; a leak of one a repetition is ten times as many."""


REMOTE = set_span_in_context(NonRecordingSpan(SpanContext(1, 2, True, TraceFlags(TraceFlags.SAMPLED))), Context())

SAMPLED, UNSAMPLED = (
    TracerProvider(sampler=sampler, shutdown_on_exit=False).get_tracer("refleak") for sampler in (ALWAYS_ON, ALWAYS_OFF)
)


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


def spans() -> None:
    """Those that are usual, and some that are not."""
    for tracer in (SAMPLED, UNSAMPLED):
        for context in (Context(), REMOTE, set_span_in_context(SAMPLED.start_span("GET /", Context()), Context())):
            with tracer.start_as_current_span("GET /", context, SpanKind.SERVER) as span:
                span.update_name("GET /items")
                tracer.start_span("query").end()
                tracer.start_span("never seen", kind=SpanKind.CONSUMER).end()


def copies() -> None:
    with UNSAMPLED.start_as_current_span("GET /", Context()) as span:
        copy.deepcopy(span)
        pickle.loads(pickle.dumps(span))  # noqa: S301 - of our own making


def bad_input() -> None:
    for span in (None, NonRecordingSpan(None), NonRecordingSpan((1, 2, False, "3", None, True))):  # type: ignore[arg-type] # on purpose
        native.annotate(SAMPLED, span, "GET /", Context(), None)
        native.annotate(None, span, "GET /", Context(), None)
    with contextlib.suppress(TypeError):
        native.SpanLabels().values = ("a", "b", 5)


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
    undo_spans = sdk_tracers.install(LabelRules())
    results += [check(case) for case in (attach_and_detach, run_contexts, own_tags, spans, copies, bad_input, threads, agents)]
    undo_spans()
    undo()
    undo_labels()
    sys.exit(not all(results))


main()
