"""A fake of the agent, and the small things that several test modules build."""

from __future__ import annotations

import contextvars
import shutil
import subprocess
import sys
import threading
from collections import defaultdict
from types import ModuleType
from typing import Any

import opentelemetry.context as context_api
import pytest
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.context.context import _RuntimeContext
from opentelemetry.context.contextvars_context import ContextVarsRuntimeContext
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context
from otel_profiling_configurator.spans.labels import KEYS, NOT_OURS, SPAN_ATTRIBUTE, LabelRules
from otel_profiling_configurator.threads.os_threads import get_ident

_PREPARED = """
import sys

sys.path[:0] = {path!r}
from opentelemetry import context, trace
from opentelemetry.sdk.trace import TracerProvider
from otel_profiling_configurator import activate, deactivate, native
from otel_profiling_configurator.context import following
from tests.unit.configurator.fakes import Pyroscope

native.is_missing_here = lambda: False
following.why_missing = following.why_missing or {why_missing!r}
pyroscope = sys.modules["pyroscope"] = Pyroscope()
trace.set_tracer_provider(TracerProvider())
activate()
tracer = trace.get_tracer("test")
"""

TRACE = 0x0123456789ABCDEF0123456789ABCDEF
SPAN = 0x00F067AA0BA902B7

SAMPLED = TraceFlags(TraceFlags.SAMPLED)
UNSAMPLED = TraceFlags(TraceFlags.DEFAULT)


class Tags:
    """What each OS thread carries, as the native agent keeps it, and every call that the agent would not forgive."""

    def __init__(self) -> None:
        self.of_thread: dict[int, list[tuple[str, str]]] = defaultdict(list)
        self.calls: list[tuple[str, int, str, str]] = []
        self.mistakes: list[str] = []
        self._of_former_agent: set[tuple[int, str, str]] = set()

    def add_thread_tag(self, key: str, value: str) -> None:
        thread = get_ident()
        self.calls.append(("add", thread, key, value))
        if key in dict(self.of_thread[thread]):
            self.mistakes.append(f"{key} added twice: {self.of_thread[thread]}, {value}")
        self.of_thread[thread].append((key, value))

    def remove_thread_tag(self, key: str, value: str) -> None:
        thread = get_ident()
        self.calls.append(("remove", thread, key, value))
        if (key, value) in self.of_thread[thread]:
            self.of_thread[thread].remove((key, value))
        elif (thread, key, value) not in self._of_former_agent:
            self.mistakes.append(f"{key}={value} removed from a thread that carries {self.of_thread[thread]}")

    def current(self) -> dict[str, str]:
        """What the calling thread carries."""
        return dict(self.of_thread[get_ident()])

    def left(self) -> list[tuple[str, str]]:
        """What all threads together carry."""
        return [pair for pairs in self.of_thread.values() for pair in pairs]

    def clear(self) -> None:
        """Begin again without labels, as a new agent does. Removing what the former one had is harmless."""
        self._of_former_agent |= {(thread, *pair) for thread, pairs in self.of_thread.items() for pair in pairs}
        self.of_thread.clear()


class Pyroscope(ModuleType):
    """A `pyroscope` module with an agent that only remembers what it was asked."""

    def __init__(self) -> None:
        super().__init__("pyroscope")
        self.tags = Tags()
        self.lib: Any = self.tags
        self.agents: list[dict[str, Any]] = []
        """Arguments of each `configure` that started an agent."""
        self.running = False
        self.shutdowns = 0
        self.configure: Any = self._configure
        self.shutdown: Any = self._shutdown
        self.original = self.configure

    def _configure(self, **arguments: Any) -> bool:
        if self.running:
            return False
        self.running = True
        self.agents.append(arguments)
        self.tags.clear()
        return True

    def _shutdown(self) -> bool:
        self.shutdowns += 1
        self.running = False
        self.tags.clear()
        return True


class WithoutVariable(_RuntimeContext):
    """A runtime context of an application's own, that keeps its context variable to itself."""

    def __init__(self) -> None:
        self._inner = ContextVarsRuntimeContext()

    def attach(self, context: Context) -> Any:
        return self._inner.attach(context)

    def get_current(self) -> Context:
        return self._inner.get_current()

    def detach(self, token: Any) -> None:
        self._inner.detach(token)


class Caching(trace.TracerProvider):
    """A provider that has one tracer, which it hands out each time, as newer SDKs do for each name."""

    def __init__(self, tracer: Any) -> None:
        self.tracer = tracer

    def get_tracer(self, *_args: Any, **_kwargs: Any) -> Any:
        return self.tracer


def span_context(span_id: int = SPAN, *, sampled: bool = True, remote: bool = False, trace_id: int = TRACE) -> SpanContext:
    return SpanContext(trace_id, span_id, remote, SAMPLED if sampled else UNSAMPLED)


def context_with(labels: Any) -> Context:
    """A context whose current span has these labels."""
    span = NonRecordingSpan(span_context())
    setattr(span, SPAN_ATTRIBUTE, labels)
    return set_span_in_context(span, Context())


def root_labels(name: str = "GET /", span_id: int = SPAN) -> Any:
    return LabelRules().of_local_root(span_context(span_id), name)


def in_span(name: str, span_id: int | None = None) -> contextvars.Context:
    """A copied context in which a span is current."""
    copied = contextvars.copy_context()
    copied.run(context_api.attach, context_with(root_labels(name, span_id or ord(name[0]))))
    return copied


def name_of(tags: Tags) -> str | None:
    """The name of the span whose labels the calling thread has."""
    return tags.current().get("span_name")


def expected(trace_id: int | None, span_id: int | None, name: str | None) -> dict[str, str]:
    """Labels written out, those that are None left out."""
    return {
        **({} if trace_id is None else {"trace_id": f"{trace_id:032x}"}),
        **({} if span_id is None else {"span_id": f"{span_id:016x}"}),
        **({} if name is None else {"span_name": name}),
    }


def pairs_of(span: Any) -> dict[str, str] | None:
    """The labels of a span; None if it is not annotated."""
    labels = getattr(span, SPAN_ATTRIBUTE, None)
    if labels is None or labels is NOT_OURS:
        return None
    return written_out(labels)


def written_out(labels: Any) -> dict[str, str]:
    """The labels by their names, those that are missing left out."""
    return {key: value for key, value in zip(KEYS, labels.values, strict=True) if value}


def on_a_thread(function: Any) -> Any:
    """Run `function` on a thread of its own to the thread's end; return what it returned, raise what it raised."""
    outcome: list[Any] = []

    def run() -> None:
        try:
            outcome.append((function(), None))
        except BaseException as error:  # noqa: BLE001 - handed to the test's thread
            outcome.append((None, error))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(10)
    assert not thread.is_alive()
    ((result, error),) = outcome
    if error is not None:
        raise error
    return result


def run_prepared(program: str, form: str = "native") -> tuple[int, str, str]:
    """Run a program that is profiled by a fake agent, in a process of its own; return exit code, output and errors."""
    why_missing = "" if form == "native" else "left out by the test"
    code = _PREPARED.format(path=sys.path, why_missing=why_missing) + program
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    return done.returncode, done.stdout, done.stderr


def skip_if_pure(request: pytest.FixtureRequest) -> None:
    """Skip what needs a module in C where none could be built, or none was meant to be."""
    if shutil.which("cc") is None or request.config.getoption("--pure"):
        pytest.skip("there was no compiler to build it with")
