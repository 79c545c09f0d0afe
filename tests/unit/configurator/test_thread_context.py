"""What a thread's record says, seen in the process itself; for readers outside see tests/integration/test_outside.py."""

from __future__ import annotations

import ctypes
import gc
import os
import struct
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import baggage, trace
from opentelemetry.context import Context, attach, detach
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import set_span_in_context
from otel_profiling_configurator.context import following, labelling, thread_context
from otel_profiling_configurator.native import native
from otel_profiling_configurator.spans import renames
from otel_profiling_configurator.spans.scope import Scope
from otel_profiling_configurator.spans.tracer_provider import ProfilingTracerProvider

from ...context_reader import Reader, is_supported
from .fakes import Tags, on_a_thread, skip_if_pure

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="such readers are Linux's")


@pytest.fixture
def publishing(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Any]]:
    """Have the spans of a provider be published; gives a function that returns its tracer."""
    skip_if_pure(request)
    monkeypatch.setattr(thread_context, "_keys", [])
    undos: list[Callable[[], None]] = [renames.unfollow_all]

    def publishing(
        provider: TracerProvider | None = None,
        names: Mapping[str, str] | None = None,
        span_id_scope: Scope = Scope.ROOT,
        span_name_scope: Scope = Scope.ROOT,
    ) -> trace.Tracer:
        provider = provider or TracerProvider(shutdown_on_exit=False)
        undos.append(labelling.install(Tags(), names or {}))
        undo, why_python = following.install()
        assert not why_python
        undos.append(undo)
        undos.append(thread_context.install(provider, (names or {}).values()))
        wrapper: Any = ProfilingTracerProvider(provider, span_id_scope, span_name_scope)
        tracer: trace.Tracer = wrapper.get_tracer("test")
        return tracer

    yield publishing
    for undo in reversed(undos):
        undo()
    assert pointer() == 0
    assert not mappings()


def pointer() -> int:
    """The calling thread's."""
    return ctypes.c_void_p.in_dll(ctypes.CDLL(native.__file__), "otel_thread_ctx_v1").value or 0


def mappings() -> list[str]:
    return [line for line in Path("/proc/self/maps").read_text().splitlines() if "OTEL_CTX" in line]


def record() -> tuple[int, int, int, list[tuple[int, str]]] | None:
    """The calling thread's record: its trace id, span id and flags, and its attributes; None where it has none."""
    at = pointer()
    if at == 0:
        return None
    trace_id, span_id, valid, flags, size = struct.unpack("<16s8sBBH", ctypes.string_at(at, 28))
    assert valid == 1
    assert 28 + size <= 640
    rest, attributes = ctypes.string_at(at + 28, size), []
    while rest:
        attributes.append((rest[0], rest[2 : 2 + rest[1]].decode()))
        rest = rest[2 + rest[1] :]
    return int.from_bytes(trace_id, "big"), int.from_bytes(span_id, "big"), flags, attributes


def record_of(span: trace.Span, *attributes: tuple[int, str]) -> tuple[int, int, int, list[tuple[int, str]]]:
    context = span.get_span_context()
    return context.trace_id, context.span_id, context.trace_flags, list(attributes)


def test_local_root(publishing: Callable[..., trace.Tracer]) -> None:
    """The record is the local root's also while a descendant is current, and there is none outside spans."""
    tracer = publishing()
    assert record() is None
    with tracer.start_as_current_span("GET /") as root:
        assert record() == record_of(root, (0, "GET /"))
        with tracer.start_as_current_span("query"):
            assert record() == record_of(root, (0, "GET /"))
        token = attach(Context())
        assert record() is None
        detach(token)
        assert record() == record_of(root, (0, "GET /"))
    assert record() is None


def test_unsampled_span(publishing: Callable[..., trace.Tracer]) -> None:
    """It has its ids, and the flags say that it isn't exported."""
    tracer = publishing(TracerProvider(sampler=ALWAYS_OFF, shutdown_on_exit=False))
    with tracer.start_as_current_span("GET /") as span:
        assert not span.get_span_context().trace_flags.sampled
        assert span.get_span_context().is_valid
        assert record() == record_of(span, (0, "GET /"))
        with tracer.start_as_current_span("query"):
            assert record() == record_of(span, (0, "GET /"))


def test_own_ids(publishing: Callable[..., trace.Tracer]) -> None:
    """By the scope `all` each span's record is its own, with the root's name by the other scope."""
    tracer = publishing(span_id_scope=Scope.ALL)
    with tracer.start_as_current_span("GET /") as root, tracer.start_as_current_span("query") as span:
        assert record() == record_of(span, (0, "GET /"))
        root.update_name("GET /{id}")
        assert record() == record_of(span, (0, "GET /{id}"))


def test_own_names(publishing: Callable[..., trace.Tracer]) -> None:
    """By the scope `all` of names, each span's record has its own name, and the root's ids."""
    tracer = publishing(span_name_scope=Scope.ALL)
    with tracer.start_as_current_span("GET /") as root, tracer.start_as_current_span("query"):
        assert record() == record_of(root, (0, "query"))


def test_no_ids(publishing: Callable[..., trace.Tracer]) -> None:
    """By the scope `none` no id is told: zeros."""
    tracer = publishing(span_id_scope=Scope.NONE)
    with tracer.start_as_current_span("GET /"), tracer.start_as_current_span("query"):
        assert record() == (0, 0, 0, [(0, "GET /")])


def test_no_labels(publishing: Callable[..., trace.Tracer]) -> None:
    """A span that is not sampled and has no name to tell has no label, and a record all the same."""
    tracer = publishing(TracerProvider(sampler=ALWAYS_OFF, shutdown_on_exit=False), span_name_scope=Scope.NONE)
    with tracer.start_as_current_span("GET /") as span:
        assert record() == record_of(span)


def test_new_name(publishing: Callable[..., trace.Tracer]) -> None:
    """The record follows `update_name`, and so do those of threads when they come back to the span."""
    tracer = publishing()
    with tracer.start_as_current_span("GET /") as span:
        span.update_name("GET /{id}")
        assert record() == record_of(span, (0, "GET /{id}"))


def test_baggage(publishing: Callable[..., trace.Tracer]) -> None:
    """Baggage labels are attributes, by their index in the process context."""
    tracer = publishing(names={"tenant": "customer"})
    token = attach(baggage.set_baggage("tenant", "ünïcode"))
    with tracer.start_as_current_span("GET /") as span:
        assert record() == record_of(span, (0, "GET /"), (1, "ünïcode"))
    detach(token)


def test_keys_only_grow(publishing: Callable[..., trace.Tracer]) -> None:
    """A name keeps its index, whatever is published later: readers remember it."""
    publishing(names={"tenant": "customer"})
    thread_context.install(TracerProvider(shutdown_on_exit=False), ["region", "customer"])()
    assert thread_context._keys == ["span_name", "customer", "region"]


@pytest.mark.parametrize(
    ("name", "told"), [("x" * 300, "x" * 255), ("a" + "é" * 200, "a" + "é" * 127), ("é" * 200, "é" * 127), ("", "")]
)
def test_long_name(publishing: Callable[..., trace.Tracer], name: str, told: str) -> None:
    """It is cut between two characters, after at most 255 bytes."""
    tracer = publishing()
    with tracer.start_as_current_span(name) as span:
        assert record() == record_of(span, *([(0, told)] if told else []))


def test_too_much(publishing: Callable[..., trace.Tracer]) -> None:
    """What doesn't fit into 640 bytes is left out, and what is shorter comes still."""
    names = {f"key{i}": f"label{i}" for i in range(8)}
    tracer = publishing(names=names)
    context = Context()
    for key in names:
        context = baggage.set_baggage(key, "last" if key == "key7" else "é" * 100, context)
    token = attach(context)
    with tracer.start_as_current_span("x" * 200):
        found = record()
        assert found is not None
        assert [index for index, _ in found[3]] == [0, 1, 2, 8]
    detach(token)


def test_thread_that_ends(publishing: Callable[..., trace.Tracer]) -> None:
    """A thread that ends within a span leaves nothing behind, for the next one that has its memory, either."""
    tracer = publishing()
    span = tracer.start_span("GET /")

    def ends_within() -> None:
        attach(set_span_in_context(span, Context()))
        assert record() == record_of(span, (0, "GET /"))

    for _ in range(100):
        on_a_thread(ends_within)
        assert on_a_thread(record) is None


def test_other_threads_when_it_ends(publishing: Callable[..., trace.Tracer]) -> None:
    """A thread within a span has an invalid record once nothing is published any more, though only it could exchange its
    pointer, and none when it switches next."""
    tracer = publishing()
    within, ended, seen = threading.Event(), threading.Event(), []

    def work() -> None:
        with tracer.start_as_current_span("GET /"):
            within.set()
            ended.wait()
            seen.append(ctypes.string_at(pointer() + 24, 1))
        seen.append(pointer())

    thread = threading.Thread(target=work)
    thread.start()
    within.wait()
    native.leave_thread_contexts()
    gc.collect()
    ended.set()
    thread.join()
    assert seen == [b"\0", 0]


def test_begins_anew(publishing: Callable[..., trace.Tracer]) -> None:
    """A span that was current when publishing ended has a valid record when it begins again."""
    tracer = publishing()
    with tracer.start_as_current_span("GET /") as span:
        native.leave_thread_contexts()
        assert record() is None
        native.use_thread_contexts(("span_name",), None, lambda: None)
        assert record() == record_of(span, (0, "GET /"))


@pytest.mark.skipif(not is_supported, reason="the reader is for x86-64")
def test_new_resource(publishing: Callable[..., trace.Tracer]) -> None:
    """A resource that the provider exchanges is published when the next span begins."""
    provider = TracerProvider(resource=Resource({"service.name": "shop"}), shutdown_on_exit=False)
    tracer = publishing(provider)
    reader = Reader(os.getpid())
    first = reader.process_context()
    assert first is not None
    assert first.resource["service.name"].value.string_value == "shop"
    provider._resource = Resource({"service.name": "shop", "service.version": "2"})
    with tracer.start_as_current_span("GET /"):
        pass
    second = reader.process_context()
    assert second is not None
    assert second.resource["service.version"].value.string_value == "2"
    assert second.published_at > first.published_at
    with tracer.start_as_current_span("GET /"):
        assert reader.process_context() == second
    os.close(reader._memory)


def begin_span_while(act: Callable[[], None], publishing: Callable[..., trace.Tracer]) -> trace.Span:
    """Make a span current for which the resource has to be published anew; `act` happens meanwhile."""
    provider = TracerProvider(shutdown_on_exit=False)
    span = publishing(provider).start_span("GET /")
    native.use_thread_contexts(("span_name",), provider, act)
    provider._resource = Resource({"service.name": "another"})
    attach(set_span_in_context(span, Context()))
    return span


def test_signal_while_publishing(publishing: Callable[..., trace.Tracer]) -> None:
    """What a signal handler of the application's raises then is raised, and the span is followed all the same."""

    def interrupted() -> None:
        raise KeyboardInterrupt

    def begin_span() -> None:
        begin_span_while(interrupted, publishing)
        for _ in range(100_000):  # it is raised as soon as Python looks for such things
            pass

    with pytest.raises(KeyboardInterrupt):
        begin_span()
    current = trace.get_current_span()
    assert record() == record_of(current, (0, "GET /"))
    attach(Context())


def test_switch_while_publishing(publishing: Callable[..., trace.Tracer]) -> None:
    """Where the thread switches elsewhere then, the record is that of what is current in the end."""

    def switches() -> None:
        attach(Context())

    begin_span_while(switches, publishing)
    assert record() is None


def test_end_while_publishing(publishing: Callable[..., trace.Tracer]) -> None:
    """Where nothing is to be published any more then, nothing is."""
    begin_span_while(native.leave_thread_contexts, publishing)
    assert record() is None
    attach(Context())


def test_process_id_of_a_child(publishing: Callable[..., trace.Tracer]) -> None:
    """A forked child has a mapping of its own, which names it, and is the only one there."""
    if not is_supported:
        pytest.skip("the reader is for x86-64")
    publishing(TracerProvider(resource=Resource({"process.pid": os.getpid()}), shutdown_on_exit=False))
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            assert not mappings()
            labelling.after_fork_in_child()
            thread_context.after_fork_in_child()
            context = Reader(os.getpid()).process_context()
            assert context is not None
            os.write(write, str(context.resource["process.pid"].value.int_value == os.getpid()).encode())
        finally:
            os._exit(0)
    os.close(write)
    assert os.read(read, 10) == b"True"
    os.close(read)
    os.waitpid(child, 0)
    assert len(mappings()) == 1
