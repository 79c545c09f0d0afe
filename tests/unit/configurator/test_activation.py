"""Everything wired together once a process, and everything taken back."""

from __future__ import annotations

import asyncio
import importlib
import logging
import os
import sys
import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import opentelemetry.context as context_api
import pytest
from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Span as SdkSpan
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import NonRecordingSpan, NoOpTracerProvider, get_current_span
from otel_profiling_configurator import (
    ProfilingTracerProvider,
    Scope,
    activate,
    activation,
    deactivate,
    fork_hooks,
    guard,
    log,
    settings,
)
from otel_profiling_configurator.agent import agent as agents
from otel_profiling_configurator.agent import descriptors, process_models
from otel_profiling_configurator.context import following, labelling
from otel_profiling_configurator.process_state import process_state
from otel_profiling_configurator.spans import tracer_provider
from otel_profiling_configurator.spans.labels import MAX_VALUE_BYTES, SPAN_ATTRIBUTE
from otel_profiling_configurator.threads import by_thread

from ...c_functions import all_functions
from .fakes import Caching, Pyroscope, expected, pairs_of, run_prepared

SECRET = "hunter2"


@pytest.fixture(autouse=True)
def in_a_process_of_its_own(no_global_provider: pytest.MonkeyPatch, pyroscope: Pyroscope) -> None:
    """No provider is set, and the agent is a fake."""
    assert no_global_provider
    assert not pyroscope.running


@pytest.fixture
def in_production(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "reraise", False)


def everything_replaced(pyroscope: Pyroscope) -> tuple[object, ...]:
    """What an activation may replace in a process, the global provider aside."""
    return (
        context_api._RUNTIME_CONTEXT,
        trace._set_tracer_provider,
        vars(SdkSpan)["update_name"],
        vars(NonRecordingSpan)["update_name"],
        vars(asyncio.Handle)["_run"],
        *all_functions(),
        pyroscope.configure,
        pyroscope.tags.add_thread_tag,
        pyroscope.tags.remove_thread_tag,
        by_thread._writer,
    )


def started(pyroscope: Pyroscope) -> bool:
    """Whether spans are labelled; the answer is the same for each part of it."""
    parts = {
        isinstance(trace.get_tracer_provider(), ProfilingTracerProvider),
        hasattr(NonRecordingSpan, SPAN_ATTRIBUTE),
        pyroscope.configure is not pyroscope.original,
    }
    assert len(parts) == 1
    return parts.pop()


def run_a_span(pyroscope: Pyroscope, name: str = "GET /") -> Any:
    """Run a span and make sure that this thread carries its labels meanwhile."""
    with trace.get_tracer("test").start_as_current_span(name) as span:
        context = span.get_span_context()
        assert pyroscope.tags.current() == expected(context.trace_id, context.span_id, name)
    assert pyroscope.tags.left() == []
    return span


def test_provider_set(global_provider: TracerProvider, pyroscope: Pyroscope) -> None:
    """It is wrapped, the agent runs, and threads carry the labels of their spans."""
    activate()
    assert started(pyroscope)
    provider: Any = trace.get_tracer_provider()
    assert provider.__wrapped__ is global_provider
    assert [agent["application_name"] for agent in pyroscope.agents] == ["shop"]
    run_a_span(pyroscope)


def test_tasks(global_provider: TracerProvider, pyroscope: Pyroscope) -> None:
    """The loop's switches are followed too."""
    assert global_provider
    activate()
    tracer = trace.get_tracer("test")
    seen: list[str] = []

    async def request(name: str) -> None:
        with tracer.start_as_current_span(name):
            for _ in range(3):
                assert pyroscope.tags.current() == pairs_of(get_current_span())
                seen.append(name)
                await asyncio.sleep(0)

    async def main() -> None:
        await asyncio.gather(request("a"), request("b"))

    asyncio.run(main())
    assert seen == ["a", "b"] * 3
    assert pyroscope.tags.left() == []


def test_again(global_provider: TracerProvider, pyroscope: Pyroscope) -> None:
    """Who comes second finds it done: one agent, one wrapping."""
    activate()
    before = everything_replaced(pyroscope)
    activate()
    provider: Any = trace.get_tracer_provider()
    assert provider.__wrapped__ is global_provider
    assert type(provider.__wrapped__) is TracerProvider
    assert everything_replaced(pyroscope) == before
    assert len(pyroscope.agents) == 1


def test_from_many_threads(global_provider: TracerProvider, pyroscope: Pyroscope) -> None:
    """The first one does it."""
    barrier = threading.Barrier(8)

    def work() -> None:
        barrier.wait(10)
        activate()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(pyroscope.agents) == 1
    provider: Any = trace.get_tracer_provider()
    assert type(provider.__wrapped__) is TracerProvider
    assert provider.__wrapped__ is global_provider


def test_wrapped_by_the_application(sdk_provider: TracerProvider, pyroscope: Pyroscope) -> None:
    """Its wrapping, with its scopes, is left as it is; agent and hooks come to it."""
    theirs: Any = ProfilingTracerProvider(sdk_provider, Scope.NONE)
    trace.set_tracer_provider(theirs)
    activate()
    assert trace.get_tracer_provider() is theirs
    with trace.get_tracer("test").start_as_current_span("GET /"):
        assert set(pyroscope.tags.current()) == {"trace_id", "span_name"}
    deactivate()
    assert trace.get_tracer_provider() is theirs
    tracer_provider.install(NoOpTracerProvider())()  # renames of the application's own wrapping


def test_activated_inside_a_span(sdk_provider: TracerProvider, pyroscope: Pyroscope) -> None:
    """What is current already is labelled at once if it can be, and a foreign span stays unlabelled."""
    trace.set_tracer_provider(sdk_provider)
    with trace.get_tracer("test").start_as_current_span("before"):
        activate()
        assert pyroscope.tags.current() == {}
        run_a_span(pyroscope)


def test_deactivated(global_provider: TracerProvider, pyroscope: Pyroscope) -> None:
    """Everything is as it was, after the agent has sent what it has."""
    before = everything_replaced(pyroscope)
    activate()
    run_a_span(pyroscope)
    deactivate()
    assert trace.get_tracer_provider() is global_provider
    assert everything_replaced(pyroscope) == before
    assert pyroscope.shutdowns == 1
    deactivate()
    assert pyroscope.shutdowns == 1


def test_what_activate_returns(global_provider: TracerProvider, pyroscope: Pyroscope) -> None:
    """Takes everything back, whoever of several asks for it."""
    before = everything_replaced(pyroscope)
    undo, again = activate(), activate()
    undo()
    again()
    assert trace.get_tracer_provider() is global_provider
    assert everything_replaced(pyroscope) == before


def test_deactivated_inside_a_span(global_provider: TracerProvider, pyroscope: Pyroscope) -> None:
    """The labels go with the agent, and the span ends as if we had never been there."""
    assert global_provider
    activate()
    with trace.get_tracer("test").start_as_current_span("GET /"):
        deactivate()
        assert pyroscope.tags.left() == []
    assert context_api.get_current() == {}


PROCESS = """
span = trace.get_tracer("test").start_span("GET /")
context.attach(trace.set_span_in_context(span))
print("done")
"""


def test_process_that_ends_inside_a_span(form: str) -> None:
    """The application's output is what it would be without us."""
    assert run_prepared(PROCESS, form) == (0, "done\n", "")


def test_activated_once_more(global_provider: TracerProvider, pyroscope: Pyroscope) -> None:
    """It all works again."""
    assert global_provider
    for _ in range(3):
        activate()
        assert started(pyroscope)
        run_a_span(pyroscope)
        deactivate()
        assert not started(pyroscope)
    assert len(pyroscope.agents) == 3
    assert pyroscope.shutdowns == 3


def test_activated_once_more_with_other_scopes(
    sdk_provider: TracerProvider, pyroscope: Pyroscope, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The settings are read anew, and hold for tracers that the application has asked for before too."""
    trace.set_tracer_provider(Caching(sdk_provider.get_tracer("test")))
    activate()
    run_a_span(pyroscope)
    deactivate()
    monkeypatch.setenv("OTEL_PROFILING_SPAN_ID_SCOPE", "none")
    activate()
    with trace.get_tracer("test").start_as_current_span("GET /"):
        assert set(pyroscope.tags.current()) == {"trace_id", "span_name"}


def test_tracer_used_after_the_deactivation(global_provider: TracerProvider, pyroscope: Pyroscope) -> None:
    """An application keeps its tracers: they replace nothing anew."""
    before = everything_replaced(pyroscope)
    activate()
    tracer = trace.get_tracer("test")
    tracer.start_span("GET /").end()
    deactivate()
    tracer.start_span("GET /").end()
    after = everything_replaced(pyroscope)
    tracer_provider.install(global_provider)()
    assert after == before


@pytest.mark.parametrize(
    ("variable", "value"),
    [("OTEL_PROFILING_ENABLED", "false"), ("OTEL_PROFILING_ENABLED", "0"), ("OTEL_SDK_DISABLED", "true")],
)
@pytest.mark.parametrize("when", ["before", "after"])
def test_switched_off(
    variable: str, value: str, when: str, sdk_provider: TracerProvider, pyroscope: Pyroscope, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing at all happens, whether the provider is set before or after."""
    monkeypatch.setenv(variable, value)
    monkeypatch.setattr(agents, "load", lambda: pytest.fail("pyroscope was imported"))
    before = everything_replaced(pyroscope)
    if when == "before":
        trace.set_tracer_provider(sdk_provider)
    activate()
    if when == "after":
        trace.set_tracer_provider(sdk_provider)
    assert trace.get_tracer_provider() is sdk_provider
    assert everything_replaced(pyroscope) == before
    assert pyroscope.agents == []


def test_agent_switched_off(
    global_provider: TracerProvider, pyroscope: Pyroscope, monkeypatch: pytest.MonkeyPatch, warned: Callable[[], list[str]]
) -> None:
    """Spans are labelled; Pyroscope is the application's to start, and is left running."""
    assert global_provider
    monkeypatch.setenv("OTEL_PROFILING_AGENT_ENABLED", "false")
    activate()
    assert pyroscope.agents == []
    run_a_span(pyroscope)
    with trace.get_tracer("test").start_as_current_span("GET /") as span:
        pyroscope.configure(application_name="theirs")
        assert pyroscope.tags.current() == pairs_of(span)
    deactivate()
    assert pyroscope.shutdowns == 0
    assert warned() == []


def test_application_started_its_agent_before_ours_was_left_out(
    global_provider: TracerProvider, pyroscope: Pyroscope, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its profiles get our labels, by thread: what it was asked for nobody has seen."""
    assert global_provider
    monkeypatch.setenv("OTEL_PROFILING_AGENT_ENABLED", "false")
    pyroscope.configure(application_name="theirs")
    activate()
    run_a_span(pyroscope)


def test_application_started_its_agent_before(
    global_provider: TracerProvider, pyroscope: Pyroscope, warned: Callable[[], list[str]]
) -> None:
    """One line says that it keeps its settings; its profiles get our labels, and it is not ours to stop."""
    assert global_provider
    pyroscope.configure(application_name="theirs")
    activate()
    (warning,) = warned()
    assert "runs in this process already" in warning
    assert "OTEL_PROFILING_AGENT_ENABLED=false" in warning
    run_a_span(pyroscope)
    deactivate()
    assert pyroscope.running
    assert pyroscope.shutdowns == 0


def test_application_starts_its_agent_inside_a_span(global_provider: TracerProvider, pyroscope: Pyroscope) -> None:
    """Theirs replaces ours; it begins without labels, so those of the thread are written anew."""
    assert global_provider
    activate()
    with trace.get_tracer("test").start_as_current_span("GET /") as span:
        assert pyroscope.configure(application_name="theirs") is True
        assert pyroscope.tags.current() == pairs_of(span)
    assert pyroscope.tags.left() == []
    assert [agent["application_name"] for agent in pyroscope.agents] == ["shop", "theirs"]
    deactivate()
    assert pyroscope.running


@pytest.mark.parametrize("early_tracer", [True, False])
def test_provider_set_later(early_tracer: bool, sdk_provider: TracerProvider, pyroscope: Pyroscope) -> None:
    """It is waited for, and then everything is as if it had been there; early tracers label their spans too."""
    activate()
    assert not started(pyroscope)
    assert pyroscope.agents == []
    tracer = trace.get_tracer("test") if early_tracer else None
    trace.set_tracer_provider(sdk_provider)
    assert started(pyroscope)
    assert [agent["application_name"] for agent in pyroscope.agents] == ["shop"]
    if tracer is not None:
        with tracer.start_as_current_span("GET /") as span:
            assert pyroscope.tags.current() == pairs_of(span)
    run_a_span(pyroscope)
    deactivate()
    assert trace.get_tracer_provider() is sdk_provider


def test_deactivated_while_waiting(sdk_provider: TracerProvider, pyroscope: Pyroscope) -> None:
    """The provider is nobody's business any more."""
    before = everything_replaced(pyroscope)
    activate()
    deactivate()
    assert everything_replaced(pyroscope) == before
    trace.set_tracer_provider(sdk_provider)
    assert trace.get_tracer_provider() is sdk_provider
    assert pyroscope.agents == []


STEPS: list[tuple[Any, str]] = [
    (tracer_provider, "install"),
    (labelling, "install"),
    (following, "install"),
    (agents, "Tags"),
    (agents.Agent, "watch_application"),
    (agents.Agent, "watch_labels"),
    (agents.Agent, "start"),
    (agents.Agent, "stop_at_exit"),
    (labelling, "refresh"),
    (fork_hooks, "register"),
]


@pytest.mark.usefixtures("in_production")
@pytest.mark.parametrize(
    ("owner", "step", "when"),
    [
        pytest.param(
            owner,
            step,
            when,
            id=f"{owner.__name__.rpartition('.')[2]}.{step}, provider set {when}",
        )
        for owner, step in STEPS
        for when in ("before", "after")
    ],
)
def test_step_that_fails(
    owner: Any,
    step: str,
    when: str,
    sdk_provider: TracerProvider,
    pyroscope: Pyroscope,
    monkeypatch: pytest.MonkeyPatch,
    warned: Callable[[], list[str]],
) -> None:
    """One warning, and everything is as it was: the traces go on, whether the provider is set before or after."""

    def fail(*_args: Any, **_kwargs: Any) -> None:
        raise LookupError("of ours")

    before = everything_replaced(pyroscope)
    with monkeypatch.context() as patch:
        patch.setattr(owner, step, fail)
        if when == "before":
            trace.set_tracer_provider(sdk_provider)
        activate()
        if when == "after":
            trace.set_tracer_provider(sdk_provider)
    (warning,) = warned()
    assert "traces go on" in warning
    assert trace.get_tracer_provider() is sdk_provider
    assert everything_replaced(pyroscope) == before
    assert not pyroscope.running


@pytest.mark.usefixtures("in_production")
@pytest.mark.parametrize(("owner", "step"), [(settings, "read"), (log, "configure")])
def test_failure_to_begin(
    owner: Any,
    step: str,
    global_provider: TracerProvider,
    pyroscope: Pyroscope,
    monkeypatch: pytest.MonkeyPatch,
    warned: Callable[[], list[str]],
) -> None:
    """The same for what comes first."""
    before = everything_replaced(pyroscope)
    with monkeypatch.context() as patch:
        patch.setattr(owner, step, lambda *_: 1 / 0)
        activate()
    assert len(warned()) == 1
    assert trace.get_tracer_provider() is global_provider
    assert everything_replaced(pyroscope) == before


@pytest.mark.usefixtures("in_production")
def test_undo_that_fails(
    global_provider: TracerProvider, pyroscope: Pyroscope, monkeypatch: pytest.MonkeyPatch, warned: Callable[[], list[str]]
) -> None:
    """The others are undone all the same."""
    before = everything_replaced(pyroscope)
    install = following.install

    def install_with_a_fault() -> Any:
        undo, why = install()

        def undo_and_fail() -> None:
            undo()
            raise LookupError("of ours")

        return undo_and_fail, why

    monkeypatch.setattr(following, "install", install_with_a_fault)
    activate()
    deactivate()
    assert len(warned()) == 1
    assert trace.get_tracer_provider() is global_provider
    assert everything_replaced(pyroscope) == before


def test_after_a_failure(global_provider: TracerProvider, pyroscope: Pyroscope, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not tried over and over, and can be tried again after `deactivate`."""
    assert global_provider
    with monkeypatch.context() as patch:
        patch.setattr(guard, "reraise", False)
        patch.setattr(following, "install", lambda: 1 / 0)
        activate()
    activate()
    assert not started(pyroscope)
    deactivate()
    activate()
    assert started(pyroscope)


@pytest.mark.parametrize("when", ["before", "after"])
def test_pyroscope_missing(
    when: str,
    sdk_provider: TracerProvider,
    pyroscope: Pyroscope,
    monkeypatch: pytest.MonkeyPatch,
    warned: Callable[[], list[str]],
) -> None:
    """One warning; nothing is replaced, traces go on."""
    monkeypatch.setitem(sys.modules, "pyroscope", None)
    before = everything_replaced(pyroscope)
    if when == "before":
        trace.set_tracer_provider(sdk_provider)
    activate()
    if when == "after":
        trace.set_tracer_provider(sdk_provider)
    assert len(warned()) == 1
    assert trace.get_tracer_provider() is sdk_provider
    assert everything_replaced(pyroscope) == before


def test_bad_settings(
    global_provider: TracerProvider, pyroscope: Pyroscope, monkeypatch: pytest.MonkeyPatch, warned: Callable[[], list[str]]
) -> None:
    """Each is warned of once, and profiling starts with what is used instead."""
    assert global_provider
    monkeypatch.setenv("OTEL_PROFILING_SAMPLE_RATE", "%s often")
    monkeypatch.setenv("OTEL_PROFILING_TYPES", "heap")
    activate()
    activate()
    assert [warning.partition("=")[0] for warning in warned()] == ["OTEL_PROFILING_TYPES", "OTEL_PROFILING_SAMPLE_RATE"]
    assert started(pyroscope)


def test_start_line(global_provider: TracerProvider, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """One line at INFO says application name, server, scopes and types, and shows no secret."""
    assert global_provider
    for variable, value in {
        "LOG_LEVEL": "info",
        "APPLICATION_NAME": "checkout",
        "SERVER_ADDRESS": f"https://user:{SECRET}@pyroscope.example:4040",
        "BASIC_AUTH_PASSWORD": SECRET,
        "HEADERS": f"Authorization={SECRET}",
        "SPAN_ID_SCOPE": "all",
        "SPAN_NAME_SCOPE": "none",
        "TYPES": "wall,memory",
    }.items():
        monkeypatch.setenv(f"OTEL_PROFILING_{variable}", value)
    activate()
    (record,) = caplog.records
    assert record.levelno == logging.INFO
    line = record.getMessage()
    for part in (
        "'checkout'",
        "pyroscope.example:4040",
        "span_id scope all",
        "span_name scope none",
        "wall+memory",
        "by thread (",
    ):
        assert part in line
    assert SECRET not in caplog.text


def test_start_without_a_log_level(global_provider: TracerProvider, caplog: pytest.LogCaptureFixture) -> None:
    """By default there is nothing to say."""
    assert global_provider
    activate()
    assert caplog.records == []


def test_start_line_while_waiting(
    sdk_provider: TracerProvider, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An INFO line tells who wonders why nothing is profiled yet."""
    monkeypatch.setenv("OTEL_PROFILING_LOG_LEVEL", "info")
    activate()
    (record,) = caplog.records
    assert "waiting" in record.getMessage()
    trace.set_tracer_provider(sdk_provider)
    assert "'shop'" in caplog.records[-1].getMessage()


def test_identity(pyroscope: Pyroscope, monkeypatch: pytest.MonkeyPatch) -> None:
    """Application name and labels are the resource's, under Grafana's names, with the user's own."""
    monkeypatch.setenv("OTEL_PROFILING_LABELS", "region=eu")
    resource = Resource({"service.name": "shop", "service.namespace": "web", "k8s.pod.name": "shop-1", "other": "x"})
    trace.set_tracer_provider(TracerProvider(resource=resource, shutdown_on_exit=False))
    activate()
    (agent,) = pyroscope.agents
    assert agent["application_name"] == "shop"
    assert agent["tags"] == {"region": "eu", "service_namespace": "web", "pod": "shop-1"}


def test_more_labels_than_are_sent(
    pyroscope: Pyroscope, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Which of the resource's are left out is said, once, with the setting that chooses."""
    monkeypatch.setenv("OTEL_PROFILING_LABELS", ",".join(f"l{n}=v" for n in range(15)))
    resource = Resource({"service.namespace": "web", "service.version": "1", "k8s.pod.name": "shop-1"})
    trace.set_tracer_provider(TracerProvider(resource=resource, shutdown_on_exit=False))
    activate()
    assert len(pyroscope.agents[0]["tags"]) == 16
    (warning,) = (record.getMessage() for record in caplog.records if record.levelname == "WARNING")
    assert "lack the resource's service_version, pod: OTEL_PROFILING_RESOURCE_LABELS" in warning


def test_identity_that_the_user_set(
    global_provider: TracerProvider, pyroscope: Pyroscope, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The application name that was set wins over the resource's."""
    assert global_provider
    monkeypatch.setenv("OTEL_PROFILING_APPLICATION_NAME", "checkout")
    activate()
    assert pyroscope.agents[0]["application_name"] == "checkout"


@pytest.mark.parametrize("source", ["setting", "resource"])
def test_very_long_application_name(source: str, pyroscope: Pyroscope, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is a label like others: beyond the server's limit it would cost every upload."""
    name = "s" * 10_000
    resource = Resource({"service.name": name if source == "resource" else "shop"})
    if source == "setting":
        monkeypatch.setenv("OTEL_PROFILING_APPLICATION_NAME", name)
    trace.set_tracer_provider(TracerProvider(resource=resource, shutdown_on_exit=False))
    activate()
    assert 0 < len(pyroscope.agents[0]["application_name"].encode()) <= MAX_VALUE_BYTES


class WithoutResource(trace.TracerProvider):
    """A provider of another SDK."""

    def get_tracer(self, *_args: Any, **_kwargs: Any) -> Any:
        return trace.NoOpTracer()


def test_provider_without_a_resource(pyroscope: Pyroscope) -> None:
    """It has no name to give, so the application is what OpenTelemetry calls one without."""
    trace.set_tracer_provider(WithoutResource())
    activate()
    (agent,) = pyroscope.agents
    assert (agent["application_name"], agent["tags"]) == ("unknown_service", {})


# In a forked child. The hook is called as the interpreter calls it; real forks are the integration tests' business.


def test_forked_inside_a_span(global_provider: TracerProvider, pyroscope: Pyroscope, caplog: pytest.LogCaptureFixture) -> None:
    """The child has an agent like its parent's and the labels of its thread, and nothing has been logged."""
    assert global_provider
    activate()
    with trace.get_tracer("test").start_as_current_span("GET /") as span:
        pyroscope.running = False  # the agent's threads do not exist in a child
        fork_hooks._after_fork_in_child()
        assert pyroscope.tags.current() == pairs_of(span)
    assert len(pyroscope.agents) == 2
    assert pyroscope.agents[0] == pyroscope.agents[1]
    assert pyroscope.tags.left() == []
    assert caplog.records == []


def test_forked_while_another_thread_activates(global_provider: TracerProvider, pyroscope: Pyroscope) -> None:
    """The lock that it held is held for ever in the child, so the child has a new one."""
    assert global_provider
    held, release = threading.Event(), threading.Event()
    in_time: list[bool] = []

    def work() -> None:
        with process_state().lock:
            held.set()
            in_time.append(release.wait(5))

    thread = threading.Thread(target=work)
    thread.start()
    assert held.wait(10)
    fork_hooks._after_fork_in_child()
    activate()
    assert started(pyroscope)
    release.set()
    thread.join(10)
    assert in_time == [True]


@pytest.mark.parametrize("situation", ["inactive", "agent switched off", "application's own agent"])
def test_forked_without_our_agent(
    situation: str, global_provider: TracerProvider, pyroscope: Pyroscope, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No agent runs in the child that none of ours ran in before."""
    assert global_provider
    if situation == "agent switched off":
        monkeypatch.setenv("OTEL_PROFILING_AGENT_ENABLED", "false")
    if situation != "inactive":
        activate()
    if situation == "application's own agent":
        pyroscope.configure(application_name="theirs")
    agents_before = len(pyroscope.agents)
    pyroscope.running = False
    fork_hooks._after_fork_in_child()
    assert len(pyroscope.agents) == agents_before


@pytest.mark.usefixtures("in_production")
def test_failure_in_a_forked_child(
    global_provider: TracerProvider, pyroscope: Pyroscope, caplog: pytest.LogCaptureFixture
) -> None:
    """The child runs on, and nothing is logged: a handler's lock may be held for ever."""
    assert global_provider
    activate()
    pyroscope.shutdown()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(agents.Agent, "start", lambda *_: 1 / 0)
        fork_hooks._after_fork_in_child()
    assert caplog.records == []


@pytest.mark.usefixtures("in_production")
def test_failure_at_a_label_in_a_forked_child(
    global_provider: TracerProvider, pyroscope: Pyroscope, caplog: pytest.LogCaptureFixture
) -> None:
    """Nor is that logged in the child; where it happens again later, it is."""
    assert global_provider
    activate()

    def fail(*_: object) -> None:
        raise ZeroDivisionError

    with trace.get_tracer("test").start_as_current_span("GET /"), pytest.MonkeyPatch.context() as patch:
        patch.setattr(by_thread, "_writer", SimpleNamespace(add_thread_tag=fail, remove_thread_tag=fail))
        pyroscope.shutdown()
        fork_hooks._after_fork_in_child()
        assert caplog.records == []
        with trace.get_tracer("test").start_as_current_span("query", context_api.Context()):
            assert len(caplog.records) == 1


def test_fork_hook(global_provider: TracerProvider, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is registered once a process: Python never forgets one."""
    assert global_provider
    registered: list[Any] = []
    monkeypatch.setattr(process_state(), "hooked", False)
    monkeypatch.setattr(os, "register_at_fork", lambda **hooks: registered.append(hooks))
    for _ in range(3):
        activate()
        deactivate()
    assert registered == [
        {
            "before": fork_hooks._before_fork,
            "after_in_parent": fork_hooks._after_fork_in_parent,
            "after_in_child": fork_hooks._after_fork_in_child,
        }
    ]


@pytest.mark.parametrize("named", [True, False], ids=["resource names it", "resource does not"])
def test_process_of_a_forked_child(named: bool, pyroscope: Pyroscope, monkeypatch: pytest.MonkeyPatch) -> None:
    """A profile that is to name its process names a child, also where the resource still names the one that forked it."""
    monkeypatch.setenv("OTEL_PROFILING_RESOURCE_LABELS", "process.pid")
    resource = Resource({"service.name": "shop", **({"process.pid": os.getpid()} if named else {})})
    trace.set_tracer_provider(TracerProvider(resource=resource, shutdown_on_exit=False))
    activate()
    pyroscope.running = False
    monkeypatch.setattr(os, "getpid", lambda: 4711)
    fork_hooks._after_fork_in_child()
    assert [agent["tags"]["process_pid"] for agent in pyroscope.agents][1] == "4711"
    monkeypatch.undo()


def test_process_that_the_resource_names(pyroscope: Pyroscope, monkeypatch: pytest.MonkeyPatch) -> None:
    """A resource that knows better, such as the host's number of a container's process, is believed."""
    monkeypatch.setenv("OTEL_PROFILING_RESOURCE_LABELS", "process.pid")
    trace.set_tracer_provider(TracerProvider(resource=Resource({"process.pid": 99}), shutdown_on_exit=False))
    activate()
    assert pyroscope.agents[0]["tags"]["process_pid"] == "99"


def test_uwsgi(global_provider: TracerProvider, pyroscope: Pyroscope, monkeypatch: pytest.MonkeyPatch) -> None:
    """The master has no agent; each worker starts one when uWSGI says that it has been forked."""
    assert global_provider
    hooks: list[Any] = []
    monkeypatch.setattr(process_models, "is_uwsgi", lambda: True)
    monkeypatch.setattr(process_models, "in_each_uwsgi_worker", hooks.append)
    activate()
    assert pyroscope.agents == []
    fork_hooks._before_fork()
    (start,) = hooks
    with trace.get_tracer("test").start_as_current_span("GET /") as span:
        start()
        start()
        assert pyroscope.tags.current() == pairs_of(span)
    assert len(pyroscope.agents) == 1


@pytest.fixture
def started_watches(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """What would listen to the agent, but doesn't here."""
    started: list[object] = []

    def start(watch: object) -> None:
        started.append(watch)

    monkeypatch.setattr(activation.ServerWatch, "start", start)
    return started


@pytest.mark.parametrize("forked", [True, False])
def test_uwsgi_without_threads_of_ours(
    forked: bool, started_watches: list[object], global_provider: TracerProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No thread of ours takes part in a worker that was forked: there another thread could make both hang."""
    assert global_provider
    hooks: list[Any] = []
    monkeypatch.setattr(process_models, "is_uwsgi", lambda: True)
    monkeypatch.setattr(process_models, "in_each_uwsgi_worker", hooks.append)
    activate()
    if forked:
        monkeypatch.setattr(os, "getpid", lambda: 99)
    hooks[0]()
    assert len(started_watches) == (0 if forked else 1)


def test_leaving_without_atexit(global_provider: TracerProvider, pyroscope: Pyroscope) -> None:
    """What children call before they leave ends the agent that runs, and is harmless where none does."""
    assert global_provider
    fork_hooks.stop_agent()
    activate()
    fork_hooks.stop_agent()
    fork_hooks.stop_agent()
    assert pyroscope.shutdowns == 1


ON_LINUX = pytest.mark.skipif(sys.platform != "linux", reason="tables of descriptors of threads are Linux's")


@ON_LINUX
@pytest.mark.usefixtures("global_provider")
def test_listening_to_the_agent(started_watches: list[object]) -> None:
    """Its words are listened to in this process, and in each that is forked."""
    activate()
    assert len(started_watches) == 1
    fork_hooks._before_fork()
    fork_hooks._after_fork_in_parent()
    assert len(started_watches) == 1


@ON_LINUX
@pytest.mark.usefixtures("global_provider", "started_watches")
def test_sampler_that_has_stopped(pyroscope: Pyroscope, monkeypatch: pytest.MonkeyPatch) -> None:
    """The agent is started again, as it was, and this thread has its labels."""
    watches: list[dict[str, Any]] = []
    watch = SimpleNamespace(start=int, stop=int, hear_last_words=int)
    monkeypatch.setattr(activation, "ServerWatch", lambda *args: watches.append(args) or watch)
    activate()
    *_, restart, _ = watches[0]
    with trace.get_tracer("test").start_as_current_span("GET /") as span:
        restart()
        assert pyroscope.tags.current() == pairs_of(span)
    assert pyroscope.shutdowns == 1
    assert len(pyroscope.agents) == 2
    assert pyroscope.agents[0] == pyroscope.agents[1]
    deactivate()
    restart()
    assert len(pyroscope.agents) == 2, "an agent that was taken back stays so"


# Who has an agent


@pytest.mark.usefixtures("global_provider")
def test_helper_of_multiprocessing(pyroscope: Pyroscope, monkeypatch: pytest.MonkeyPatch) -> None:
    """It does nothing, so nothing is done in it."""
    monkeypatch.setattr(process_models, "is_helper", lambda: True)
    before = everything_replaced(pyroscope)
    activate()
    assert everything_replaced(pyroscope) == before
    assert pyroscope.agents == []


@pytest.mark.usefixtures("global_provider", "started_watches")
def test_process_that_only_forks(pyroscope: Pyroscope, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has no agent, and each of its children has one, which ends with the child."""
    monkeypatch.setattr(process_models, "only_forks", lambda: True)
    activate()
    fork_hooks._before_fork()
    assert pyroscope.agents == []
    fork_hooks._after_fork_in_child()
    assert len(pyroscope.agents) == 1
    fork_hooks.stop_agent()
    assert pyroscope.shutdowns == 1


@pytest.mark.usefixtures("global_provider")
def test_other_interpreter(pyroscope: Pyroscope, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the main one is profiled: in another, nothing is done."""
    monkeypatch.setattr(activation, "is_main_interpreter", lambda: False)
    before = everything_replaced(pyroscope)
    activate()()
    assert everything_replaced(pyroscope) == before
    assert pyroscope.agents == []


@pytest.fixture
def second_copy() -> Iterator[Any]:
    """`activation` of this package, imported a second time."""
    name = "otel_profiling_configurator"
    mine = {module: sys.modules.pop(module) for module in list(sys.modules) if module.split(".")[0] == name}
    try:
        yield importlib.import_module(f"{name}.activation")
    finally:
        for module in [module for module in sys.modules if module.split(".")[0] == name]:
            del sys.modules[module]
        sys.modules.update(mine)


@pytest.mark.usefixtures("global_provider")
def test_second_copy(pyroscope: Pyroscope, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """It finds what the first has done: it does nothing again, and takes nothing back."""
    hooks: list[Any] = []
    activate()
    before = everything_replaced(pyroscope)
    monkeypatch.setattr(os, "register_at_fork", lambda **registered: hooks.append(registered))
    copy = request.getfixturevalue("second_copy")
    assert copy is not activation
    copy.activate()
    copy.deactivate()
    copy.activate()()
    assert everything_replaced(pyroscope) == before
    assert len(pyroscope.agents) == 1
    assert pyroscope.running
    assert hooks == []
    run_a_span(pyroscope)


@pytest.mark.usefixtures("global_provider")
def test_child_with_the_agents_descriptors_beside_its_own(pyroscope: Pyroscope, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its agent is not started at once, when daemons close descriptors; in one of `multiprocessing` as soon as it begins."""
    monkeypatch.setattr(descriptors, "_leave_table", lambda: False)
    activate()
    fork_hooks._before_fork()
    pyroscope.running = False  # as in a child
    fork_hooks._after_fork_in_child()
    assert len(pyroscope.agents) == 1
    fork_hooks.start_due_agent()
    assert len(pyroscope.agents) == 2
