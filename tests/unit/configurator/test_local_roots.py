"""Which spans begin a unit of work in this process, and so label it with their own name and id."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.context import Context
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, Decision, Sampler, SamplingResult
from opentelemetry.trace import NonRecordingSpan, SpanKind, get_current_span, set_span_in_context, use_span
from otel_profiling_configurator import ProfilingTracerProvider, Scope
from otel_profiling_configurator.spans import local_roots, sdk_tracers
from otel_profiling_configurator.spans.labels import LabelRules

from .fakes import expected, pairs_of, span_context

PROFILE_ID = "pyroscope.profile.id"
CLICK = "opentelemetry.instrumentation.click"
KINDS = {kind: kind.name for kind in SpanKind}
SERVING = [SpanKind.SERVER, SpanKind.CONSUMER]
SCOPES = {"scopes root": (Scope.ROOT, Scope.ROOT), "scopes all": (Scope.ALL, Scope.ALL)}


pytestmark = pytest.mark.usefixtures("renames_are_unfollowed")


@pytest.fixture(params=["by its class", "by its provider"])
def provider(request: pytest.FixtureRequest) -> Iterator[Any]:
    """The rule holds for whatever annotates spans."""
    inner = TracerProvider(sampler=ALWAYS_ON, shutdown_on_exit=False)
    if request.param == "by its provider":
        yield ProfilingTracerProvider(inner)
    else:
        undo = sdk_tracers.install(LabelRules())
        yield inner
        undo()


@pytest.fixture
def tracer(provider: Any) -> Any:
    return provider.get_tracer("test")


@pytest.fixture
def click(provider: Any) -> Any:
    return provider.get_tracer(CLICK)


def is_local_root(span: Any) -> bool:
    """Whether a span's labels are its own, its profile's id among them; nothing else may have that."""
    context = span.get_span_context()
    own = pairs_of(span) == expected(context.trace_id, context.span_id, span.name)
    assert span.attributes == ({PROFILE_ID: f"{context.span_id:016x}"} if own else {})
    return own


# Kinds


@pytest.mark.parametrize("kind", KINDS, ids=KINDS.get)
def test_kind_below_a_span_of_the_process(tracer: Any, kind: SpanKind) -> None:
    """A request or a message is a unit of work, whatever span the process is in; a step of another kind is not."""
    with tracer.start_as_current_span("script") as script, tracer.start_as_current_span("step"):
        span = tracer.start_span("GET /", kind=kind)
        with use_span(span):
            child = tracer.start_span("query")
        beside = tracer.start_span("next step")
    assert is_local_root(script)
    assert is_local_root(span) is (kind in SERVING)
    assert pairs_of(child) == pairs_of(span)
    assert pairs_of(beside) == pairs_of(script)
    assert len({one.get_span_context().trace_id for one in (script, span, child)}) == 1


@pytest.mark.parametrize("inner", SERVING, ids=KINDS.get)
@pytest.mark.parametrize("outer", SERVING, ids=KINDS.get)
@pytest.mark.parametrize("between", [True, False], ids=["with a span between", "directly below"])
def test_request_below_a_request(tracer: Any, outer: SpanKind, inner: SpanKind, between: bool) -> None:
    """The outermost is the unit of work, as of an ASGI application that is mounted in another."""
    root = tracer.start_span("GET /", kind=outer)
    current = tracer.start_span("step", set_span_in_context(root)) if between else root
    span = tracer.start_span("GET /mounted", set_span_in_context(current), kind=inner)
    assert is_local_root(root)
    assert not is_local_root(span)
    assert pairs_of(span) == pairs_of(root)


def test_request_below_a_request_of_a_script(tracer: Any) -> None:
    """Only those above it in this process count, however many there are."""
    with tracer.start_as_current_span("script"):
        for kind in SERVING:
            with tracer.start_as_current_span("GET /", kind=kind) as span:
                assert is_local_root(span)
                with tracer.start_as_current_span("step"), tracer.start_as_current_span("mounted", kind=kind) as inner:
                    assert pairs_of(inner) == pairs_of(span)


def test_request_with_a_remote_parent(tracer: Any) -> None:
    """Kinds of spans of other processes count for nothing, but a request's own kind does."""
    parent = set_span_in_context(NonRecordingSpan(span_context(remote=True)), Context())
    root = tracer.start_span("GET /", parent, kind=SpanKind.SERVER)
    inner = tracer.start_span("mounted", set_span_in_context(root), kind=SpanKind.SERVER)
    assert is_local_root(root)
    assert not is_local_root(inner)


@pytest.mark.parametrize("scopes", SCOPES.values(), ids=SCOPES)
@pytest.mark.parametrize("sampler", [ALWAYS_ON, ALWAYS_OFF], ids=["sampled", "unsampled"])
def test_request_by_scopes_and_sampling(sampler: Sampler, scopes: tuple[Scope, Scope]) -> None:
    """A unit of work has its own name where it is not sampled, too, and below it there is none in any scope."""
    provider: Any = ProfilingTracerProvider(TracerProvider(sampler=sampler, shutdown_on_exit=False), *scopes)
    tracer = provider.get_tracer("test")
    names = []
    with tracer.start_as_current_span("script"), tracer.start_as_current_span("GET /", kind=SpanKind.SERVER):
        names.append(pairs_of(get_current_span()))
        with tracer.start_as_current_span("mounted", kind=SpanKind.SERVER):
            names.append(pairs_of(get_current_span()))
    inner = "mounted" if scopes == SCOPES["scopes all"] else "GET /"
    assert [(labels or {})["span_name"] for labels in names] == ["GET /", inner]
    assert [("span_id" in (labels or {})) for labels in names] == [sampler is ALWAYS_ON] * 2


@pytest.mark.usefixtures("following")
def test_renamed_request_below_a_script(tracer: Any) -> None:
    """Each follows its own span's name."""
    with tracer.start_as_current_span("script") as script, tracer.start_as_current_span("GET", kind=SpanKind.SERVER) as span:
        child = tracer.start_span("query")
        span.update_name("GET /users")
        script.update_name("main")
    assert is_local_root(span)
    assert is_local_root(script)
    assert pairs_of(child) == pairs_of(span)


# Commands


def test_below_a_command(tracer: Any, click: Any) -> None:
    """A command's span labels what is outside of all others; each span below it is a unit of work."""
    with click.start_as_current_span("serve") as command:
        first, second = tracer.start_span("task"), tracer.start_span("GET /", kind=SpanKind.SERVER)
        with use_span(first):
            child = tracer.start_span("query")
    assert is_local_root(command)
    assert is_local_root(first)
    assert is_local_root(second)
    assert pairs_of(child) == pairs_of(first)


def test_nested_commands(tracer: Any, click: Any) -> None:
    """A group's span is that of a whole command as well."""
    with click.start_as_current_span("flask"), click.start_as_current_span("run") as command:
        span = tracer.start_span("GET /")
    assert is_local_root(command)
    assert is_local_root(span)


@pytest.mark.usefixtures("following")
def test_command_below_a_span(tracer: Any, click: Any) -> None:
    """It begins nothing itself; what is below it does all the same, and later names of the span above name the command, too."""
    with tracer.start_as_current_span("script") as script, click.start_as_current_span("serve") as command:
        span = tracer.start_span("GET /")
        script.update_name("main")
    assert pairs_of(command) == pairs_of(script)
    assert not is_local_root(command)
    assert is_local_root(span)


class Dropping(Sampler):
    """Drops the spans of commands, or all."""

    def __init__(self, *dropped: str) -> None:
        self.dropped = dropped

    def should_sample(self, parent_context: Any, trace_id: int, name: str, *_args: Any, **_kwargs: Any) -> SamplingResult:
        del parent_context, trace_id
        return SamplingResult(Decision.DROP if name in self.dropped else Decision.RECORD_AND_SAMPLE)

    def get_description(self) -> str:
        return "by name"


@pytest.mark.parametrize("dropped", [("serve",), ("serve", "GET /", "query")], ids=["the command", "all"])
def test_unsampled_command(dropped: tuple[str, ...]) -> None:
    """Its span doesn't know who made it; the rule holds."""
    provider: Any = ProfilingTracerProvider(TracerProvider(sampler=Dropping(*dropped), shutdown_on_exit=False))
    tracer, click = provider.get_tracer("test"), provider.get_tracer(CLICK)
    with click.start_as_current_span("serve") as command:
        assert pairs_of(command) == {"span_name": "serve"}
        with tracer.start_as_current_span("GET /") as span:
            assert (pairs_of(span) or {})["span_name"] == "GET /"
            assert pairs_of(tracer.start_span("query")) == pairs_of(span)


def test_command_within_a_request(tracer: Any, click: Any) -> None:
    """A request that calls a command stays the outermost one for the kinds below it."""
    with tracer.start_as_current_span("GET /", kind=SpanKind.SERVER), click.start_as_current_span("export"):
        task = tracer.start_span("task")
        with use_span(task):
            mounted = tracer.start_span("GET /mounted", kind=SpanKind.SERVER)
    assert is_local_root(task)
    assert pairs_of(mounted) == pairs_of(task)


# Forks


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing forks here")
def test_span_in_a_forked_child(tracer: Any) -> None:
    """Its parent was started in another process, so it is a local root, and none of its descendants. Nobody else notices."""
    with tracer.start_as_current_span("master", kind=SpanKind.SERVER) as master:
        process = os.fork()
        if process == 0:
            code = 1
            try:
                first = tracer.start_span("first")
                with use_span(first):
                    child = tracer.start_span("child")
                    mounted = tracer.start_span("mounted", kind=SpanKind.SERVER)
                right = is_local_root(first), not is_local_root(child), is_local_root(mounted), master.parent is None
                code = 0 if all(right) else 2
            finally:
                os._exit(code)
        _, status = os.waitpid(process, 0)
        after = tracer.start_span("after")
    assert os.waitstatus_to_exitcode(status) == 0
    assert pairs_of(after) == pairs_of(master)


def test_process_that_was_forked_unheard(tracer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever forks without Python's hooks may say so."""
    monkeypatch.setattr(local_roots, "this_process", local_roots.this_process)
    with tracer.start_as_current_span("master"):
        local_roots.begin_process()
        span = tracer.start_span("GET /")
        with use_span(span):
            child = tracer.start_span("query")
    assert is_local_root(span)
    assert pairs_of(child) == pairs_of(span)


# Tracers that are switched off


def test_request_of_a_tracer_that_is_switched_off(tracer: Any, provider: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """It hands its parent on, whose work goes on: nothing begins."""
    silent = provider.get_tracer("silent")
    config = getattr(silent, "_tracer_config", None)
    if config is None:
        pytest.skip("this SDK has no tracers to be switched off one by one")
    monkeypatch.setattr(silent, "_tracer_config", type(config)(is_enabled=False))
    with tracer.start_as_current_span("script") as script:
        nothing = silent.start_span("GET /", kind=SpanKind.SERVER)
        with use_span(nothing):
            child = tracer.start_span("query")
    assert pairs_of(nothing) == pairs_of(child) == pairs_of(script)
    assert script.attributes == {PROFILE_ID: f"{script.get_span_context().span_id:016x}"}
