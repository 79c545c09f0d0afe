"""The agent: what it is told, how it gives way, and that nobody waits for it for long."""

from __future__ import annotations

import atexit
import importlib
import inspect
import logging
import os
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from otel_profiling_configurator import guard
from otel_profiling_configurator.agent import agent as agents
from otel_profiling_configurator.agent.agent import Agent
from otel_profiling_configurator.settings import Settings

from .fakes import Pyroscope

DEFAULT_ARGUMENTS = {
    "application_name": "shop",
    "server_address": "http://localhost:4040",
    "basic_auth_username": "",
    "basic_auth_password": "",
    "tenant_id": "",
    "http_headers": {},
    "tags": {"region": "eu"},
    "sample_rate": 100,
    "upload_interval": 10,
    "gil_only": True,
    "oncpu": True,
    "cpu_enabled": True,
    "mem_enabled": False,
}


def started(pyroscope: Pyroscope, settings: Settings | None = None) -> Agent:
    agent = Agent(pyroscope, settings or Settings())
    assert agent.start("shop", {"region": "eu"})
    return agent


def test_stopped() -> None:
    """Who wants to know what it said as it ended is called then, once."""
    agent = started(Pyroscope())
    running: list[bool] = []
    agent.when_stopped = lambda: running.append(agent.running)
    agent.stop()
    agent.stop()
    assert running == [False]


@pytest.mark.parametrize(
    ("settings", "arguments"),
    [
        ({}, {}),
        ({"server_address": "https://host"}, {"server_address": "https://host"}),
        ({"basic_auth_user": "u"}, {"basic_auth_username": "u"}),
        ({"basic_auth_password": "p"}, {"basic_auth_password": "p"}),
        ({"tenant_id": "t"}, {"tenant_id": "t"}),
        ({"headers": {"a": "b"}}, {"http_headers": {"a": "b"}}),
        ({"sample_rate": 50}, {"sample_rate": 50}),
        ({"upload_interval": 15}, {"upload_interval": 15}),
        ({"gil_only": False}, {"gil_only": False}),
        ({"gil_only": True}, {"gil_only": True}),
        ({"types": ("cpu",)}, {"oncpu": True, "cpu_enabled": True, "mem_enabled": False}),
        # A thread that waits does not hold the GIL.
        (
            {"types": ("wall",)},
            {
                "oncpu": False,
                "gil_only": False,
                "cpu_enabled": True,
                "mem_enabled": False,
                "tags": {"region": "eu", "clock": "wall"},
            },
        ),
        ({"types": ("memory",)}, {"cpu_enabled": False, "mem_enabled": True}),
        ({"types": ("memory", "cpu")}, {"oncpu": True, "cpu_enabled": True, "mem_enabled": True}),
        (
            {"types": ("wall", "memory")},
            {
                "oncpu": False,
                "gil_only": False,
                "cpu_enabled": True,
                "mem_enabled": True,
                "tags": {"region": "eu", "clock": "wall"},
            },
        ),
    ],
    ids=str,
)
def test_arguments(settings: dict[str, Any], arguments: dict[str, Any], pyroscope: Pyroscope) -> None:
    """The agent is told exactly what the settings say."""
    started(pyroscope, replace(Settings(), **settings))
    assert pyroscope.agents == [{**DEFAULT_ARGUMENTS, **arguments}]


def test_sampler_by_name(pyroscope: Pyroscope) -> None:
    """Where there is a choice of samplers, the one that knows labels is asked for by its name."""
    pyroscope.ProfilerImplementation = SimpleNamespace(PySpy="the one with labels", Stack="another")
    started(pyroscope)
    assert pyroscope.agents == [{**DEFAULT_ARGUMENTS, "cpu_implementation": "the one with labels"}]


@pytest.mark.parametrize("level", [logging.DEBUG, logging.WARNING])
def test_log_of_the_agent(level: int, pyroscope: Pyroscope) -> None:
    """Its library says what fails and nothing else, whatever level we have; its logger is left to the application."""
    asked: list[int] = []
    pyroscope.lib = SimpleNamespace(
        add_thread_tag=pyroscope.tags.add_thread_tag,
        remove_thread_tag=pyroscope.tags.remove_thread_tag,
        initialize_logging=asked.append,
        drop_agent=lambda: asked.append(0),
    )
    logger = logging.getLogger("pyroscope")
    original = pyroscope.configure

    def configure(**arguments: Any) -> Any:
        logger.disabled = True
        return original(**arguments)

    pyroscope.configure = configure
    agent = started(pyroscope, Settings(log_level=level))
    assert asked == [logging.ERROR]
    assert not logger.disabled
    agent.stop()
    assert asked == [logging.ERROR, 0]
    assert pyroscope.shutdowns == 0, "which would say so through logging"


def test_no_filter_for_warnings(pyroscope: Pyroscope) -> None:
    """The filters for warnings are the application's."""
    before = list(warnings.filters)
    started(pyroscope)
    assert list(warnings.filters) == before


def test_words(pyroscope: Pyroscope) -> None:
    """What the agent's library writes on descriptor 2 can be had, once; the application's standard error has none of it."""
    if sys.platform != "linux":
        pytest.skip("tables of descriptors of threads are Linux's")
    original = pyroscope.configure

    def configure(**arguments: Any) -> Any:
        os.write(2, b"Sending Session failed 401 no org id\n")
        return original(**arguments)

    pyroscope.configure = configure
    agent = Agent(pyroscope, Settings())
    assert (agent.words_are_caught, agent.take_words()) == (False, b"")
    assert agent.start("shop", {})
    assert agent.words_are_caught
    assert agent.take_words() == b"Sending Session failed 401 no org id\n"
    assert agent.take_words() == b""
    agent.stop()
    assert agent.take_words() == b""


def test_start_without_a_thread(pyroscope: Pyroscope) -> None:
    """Where no thread of ours may start it, the agent's descriptors and words are beside the application's."""
    agent = Agent(pyroscope, Settings())
    assert agent.start("shop", {}, threads=False)
    assert (agent.words_are_caught, agent.take_words()) == (False, b"")
    agent.stop()
    assert pyroscope.shutdowns == 1


def test_agent_that_runs_already(pyroscope: Pyroscope) -> None:
    """`start` says so, and that agent is not ours to stop."""
    pyroscope.configure(application_name="of the application")
    agent = Agent(pyroscope, Settings())
    assert agent.start("shop", {}) is False
    assert not agent.running
    agent.stop()
    assert pyroscope.shutdowns == 0
    assert pyroscope.running


def test_stop(pyroscope: Pyroscope) -> None:
    """The agent is shut down, which is when it sends what it has; once."""
    agent = started(pyroscope)
    assert agent.running
    agent.stop()
    agent.stop()
    assert pyroscope.shutdowns == 1
    assert not agent.running


def test_stop_before_the_start(pyroscope: Pyroscope) -> None:
    """Nothing runs, so nothing is shut down."""
    Agent(pyroscope, Settings()).stop()
    assert pyroscope.shutdowns == 0


def test_started_again(pyroscope: Pyroscope) -> None:
    """As in a forked child, or after a deactivation: it is told the same, and can be stopped again."""
    agent = started(pyroscope)
    agent.stop()
    assert agent.start("shop", {"region": "eu"})
    agent.stop()
    assert len(pyroscope.agents) == 2
    assert pyroscope.agents[0] == pyroscope.agents[1]
    assert pyroscope.shutdowns == 2


def test_stop_while_the_server_hangs(pyroscope: Pyroscope, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process's exit is not delayed for longer than documented."""
    assert agents.EXIT_SECONDS <= 3
    monkeypatch.setattr(agents, "EXIT_SECONDS", 0.05)
    answer, answered = threading.Event(), threading.Event()

    def hang() -> None:
        answer.wait(30)
        answered.set()

    pyroscope.shutdown = hang
    agent = started(pyroscope)
    agent.stop()
    assert not answered.is_set()
    answer.set()
    assert answered.wait(10)


def test_shutdown_that_raises(pyroscope: Pyroscope, monkeypatch: pytest.MonkeyPatch) -> None:
    """The application's standard error has no traceback of ours."""
    monkeypatch.setattr(guard, "reraise", False)
    shown: list[Any] = []
    monkeypatch.setattr("sys.unraisablehook", lambda args: shown.append(args.exc_type))

    def fail() -> None:
        raise OSError("of the agent")

    pyroscope.shutdown = fail
    started(pyroscope).stop()
    assert shown == []


def test_exit_of_the_interpreter(pyroscope: Pyroscope, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the agent has is uploaded then, unless that has been cancelled."""
    registered: list[Callable[[], None]] = []
    monkeypatch.setattr(atexit, "register", registered.append)
    monkeypatch.setattr(atexit, "unregister", registered.remove)
    agent = started(pyroscope)
    cancel = agent.stop_at_exit()
    (at_exit,) = registered
    cancel()
    assert registered == []
    assert pyroscope.shutdowns == 0
    at_exit()
    assert pyroscope.shutdowns == 1


# Applications that start Pyroscope themselves


def test_application_starts_its_own_agent(pyroscope: Pyroscope, warned: Callable[[], list[str]]) -> None:
    """Theirs replaces ours, which sends what it has first; a line says what happened and how to avoid it."""
    agent = started(pyroscope)
    events: list[str] = []
    agent.watch_application(lambda: events.append("theirs has started"))
    assert pyroscope.configure(application_name="theirs", sample_rate=7) is True
    assert pyroscope.shutdowns == 1
    assert pyroscope.agents[-1] == {"application_name": "theirs", "sample_rate": 7}
    assert events == ["theirs has started"]
    assert not agent.running
    (warning,) = warned()
    assert "OTEL_PROFILING_AGENT_ENABLED=false" in warning
    agent.stop()
    assert pyroscope.shutdowns == 1


def test_application_starts_its_own_agent_while_ours_can_not_end(monkeypatch: pytest.MonkeyPatch, pyroscope: Pyroscope) -> None:
    """Our server hangs: the application goes on after `EXIT_SECONDS`, and its agent starts once ours has ended."""
    monkeypatch.setattr(agents, "EXIT_SECONDS", 0.05)
    agent = started(pyroscope)
    hangs, has_started = threading.Event(), threading.Event()
    pyroscope.lib.drop_agent = lambda: (hangs.wait(10), pyroscope.shutdown())
    agent.watch_application(has_started.set)
    assert pyroscope.configure(application_name="theirs") is True
    assert [each["application_name"] for each in pyroscope.agents] == ["shop"]
    hangs.set()
    assert has_started.wait(10)
    assert [each["application_name"] for each in pyroscope.agents] == ["shop", "theirs"]


def test_agent_that_is_started_again(monkeypatch: pytest.MonkeyPatch, pyroscope: Pyroscope) -> None:
    """The former one is waited for as long as it takes: until then there can be no other."""
    monkeypatch.setattr(agents, "EXIT_SECONDS", 0.05)
    agent = started(pyroscope)
    pyroscope.lib.drop_agent = lambda: (time.sleep(0.2), pyroscope.shutdown())
    assert agent.restart("shop", {})
    assert len(pyroscope.agents) == 2


def test_application_starts_the_only_agent(pyroscope: Pyroscope, warned: Callable[[], list[str]]) -> None:
    """With ours left out there is nothing to give way and nothing to say; its start is noticed."""
    agent = Agent(pyroscope, Settings(agent_enabled=False))
    events: list[str] = []
    agent.watch_application(lambda: events.append("theirs has started"))
    assert pyroscope.configure(application_name="theirs") is True
    assert pyroscope.configure(application_name="theirs again") is False
    assert events == ["theirs has started"]
    assert pyroscope.shutdowns == 0
    assert warned() == []


class Started(list[bool]):
    """For each agent that has started, whether its samples may have aliases."""


@pytest.fixture
def agents_started(monkeypatch: pytest.MonkeyPatch) -> Started:
    """Here samples can have aliases."""
    seen = Started()
    monkeypatch.setattr(agents.labelling, "agent_started", lambda _writer, *, aliases: seen.append(aliases))
    return seen


@pytest.mark.parametrize(
    ("settings", "aliases"),
    [
        (Settings(), True),
        (Settings(gil_only=False), True),
        (Settings(types=("wall",)), True),
        (Settings(types=("memory", "cpu")), True),
        (Settings(types=("memory",)), False),
    ],
    ids=["default", "all threads", "wall", "memory and CPU", "memory"],
)
def test_aliases_for_our_agent(settings: Settings, aliases: bool, pyroscope: Pyroscope, agents_started: Started) -> None:
    """Wherever it takes samples of threads: its memory profile has no labels."""
    Agent(pyroscope, settings).start("shop", {})
    assert agents_started == [aliases]


def test_no_aliases_for_an_agent_that_runs_already(pyroscope: Pyroscope, agents_started: Started) -> None:
    """It may report the ids of its threads: nobody knows what it was asked for."""
    pyroscope.configure(application_name="of the application")
    Agent(pyroscope, Settings()).start("shop", {})
    assert agents_started == [False]


@pytest.mark.parametrize(
    ("positional", "options", "aliases"),
    [
        ((), {}, True),
        (("theirs",), {}, True),
        ((), {"report_thread_id": True}, False),
        ((), {"report_thread_name": True}, False),
        ((), {"cpu_implementation": "another"}, False),
        ((), {"cpu_enabled": False}, False),
        (("theirs", "theirs", "http://localhost:4040", "", "", False, 100, True, None, True, False, True), {}, False),
    ],
    ids=["default", "name", "ids", "names", "another profiler", "no CPU profile", "by position"],
)
def test_aliases_for_the_applications_agent(
    positional: tuple[Any, ...],
    options: dict[str, Any],
    aliases: bool,
    pyroscope: Pyroscope,
    agents_started: Started,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It has them, too, but where its samples name their threads, or may; then the threads are labelled anew."""
    monkeypatch.setattr(pyroscope, "configure", lambda *_args, **_kwargs: True)
    anew: list[list[bool]] = []
    Agent(pyroscope, Settings(agent_enabled=False)).watch_application(lambda: anew.append(list(agents_started)))
    pyroscope.configure(*positional, **options)
    assert anew == [[aliases]]


def test_application_that_labels_threads(pyroscope: Pyroscope, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it has called does what it did, and the labels are told of, until that is undone."""
    told: list[tuple[bool, str, str]] = []
    monkeypatch.setattr(agents.labelling, "tag_of_application", lambda *tag: told.append(tag))
    agent = Agent(pyroscope, Settings())
    originals = pyroscope.lib.add_thread_tag, pyroscope.lib.remove_thread_tag
    undo = agent.watch_labels()
    assert inspect.signature(pyroscope.lib.add_thread_tag) == inspect.signature(originals[0])
    pyroscope.lib.add_thread_tag("job", "nightly")
    assert pyroscope.tags.current() == {"job": "nightly"}
    pyroscope.lib.remove_thread_tag("job", "nightly")
    assert pyroscope.tags.current() == {}
    assert told == [(True, "job", "nightly"), (False, "job", "nightly")]
    undo()
    assert (pyroscope.lib.add_thread_tag, pyroscope.lib.remove_thread_tag) == originals


def test_labels_of_ours_are_not_taken_for_the_applications(pyroscope: Pyroscope, monkeypatch: pytest.MonkeyPatch) -> None:
    """We write through the functions that were there before they were watched."""
    told: list[object] = []
    monkeypatch.setattr(agents.labelling, "tag_of_application", lambda *tag: told.append(tag))
    agent = Agent(pyroscope, Settings())
    undo = agent.watch_labels()
    agent.tags.add_thread_tag("span_name", "GET /")
    agent.tags.remove_thread_tag("span_name", "GET /")
    undo()
    assert told == []


def test_application_labels_a_thread_while_we_fail(
    pyroscope: Pyroscope, monkeypatch: pytest.MonkeyPatch, warned: Callable[[], list[str]]
) -> None:
    """Its call goes through all the same, and one warning says so."""
    monkeypatch.setattr(guard, "reraise", False)
    monkeypatch.setattr(agents.labelling, "tag_of_application", lambda *_tag: 1 / 0)
    undo = Agent(pyroscope, Settings()).watch_labels()
    for job in ("a", "b"):
        pyroscope.lib.add_thread_tag(f"job {job}", job)
    undo()
    assert pyroscope.tags.current() == {"job a": "a", "job b": "b"}
    assert len(warned()) == 1


@pytest.mark.parametrize(("rate", "seconds"), [(100, 0.02), (1, 0.02), (1000, 0.002)])
def test_wait_before_a_fork(rate: int, seconds: float, pyroscope: Pyroscope, monkeypatch: pytest.MonkeyPatch) -> None:
    """Is bounded whatever the rate of sampling: all other threads stand still meanwhile."""
    waits: list[float] = []
    monkeypatch.setattr(agents, "are_still", lambda _threads, most: waits.append(most))
    agent = Agent(pyroscope, Settings(sample_rate=rate))
    agent.wait_to_fork()
    assert waits == []
    agent.start("shop", {})
    agent.wait_to_fork()
    assert waits == [seconds]


def test_application_fails_to_start_its_own_agent(pyroscope: Pyroscope) -> None:
    """It sees its exception."""
    agent = Agent(pyroscope, Settings(agent_enabled=False))
    agent.watch_application(lambda: None)
    with pytest.raises(TypeError):
        pyroscope.configure("positional, where the fake takes none")


def test_failure_to_give_way(pyroscope: Pyroscope, monkeypatch: pytest.MonkeyPatch, warned: Callable[[], list[str]]) -> None:
    """The application's call goes through all the same."""
    monkeypatch.setattr(guard, "reraise", False)
    agent = started(pyroscope)
    monkeypatch.setattr(agent, "stop", lambda: 1 / 0)
    agent.watch_application(lambda: None)
    assert pyroscope.configure(application_name="theirs") is False
    assert any("give way" in warning for warning in warned())


def test_watching_seen_by_the_application(pyroscope: Pyroscope) -> None:
    """`configure` still looks like itself, and is itself again after the undo."""
    undo = Agent(pyroscope, Settings()).watch_application(lambda: None)
    assert pyroscope.configure is not pyroscope.original
    assert pyroscope.configure.__name__ == pyroscope.original.__name__
    undo()
    assert pyroscope.configure is pyroscope.original


def test_undo_after_somebody_else(pyroscope: Pyroscope) -> None:
    """Who replaced `configure` after us stays."""
    undo = Agent(pyroscope, Settings()).watch_application(lambda: None)
    theirs = pyroscope.configure = lambda: None
    undo()
    assert pyroscope.configure is theirs


def test_own_start_while_watching(pyroscope: Pyroscope, warned: Callable[[], list[str]]) -> None:
    """Our own start and restart are not taken for the application's."""
    agent = Agent(pyroscope, Settings())
    agent.watch_application(lambda: pytest.fail("taken for the application's"))
    assert agent.start("shop", {})
    agent.stop()
    assert agent.start("shop", {})
    assert warned() == []


# Loading


def test_loaded(pyroscope: Pyroscope) -> None:
    """The module that the application would import too."""
    assert agents.load() is pyroscope


@pytest.mark.parametrize(
    "error",
    [
        ModuleNotFoundError("No module named 'pyroscope'"),
        ImportError("libgcc_s.so.1: cannot open shared object file"),
        OSError("wrong ELF class"),
        AttributeError("module '_native' has no attribute 'LineNo'"),
        SystemError("initialization failed"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_module_that_can_not_be_loaded(
    error: Exception, monkeypatch: pytest.MonkeyPatch, warned: Callable[[], list[str]]
) -> None:
    """One warning with the fact, the consequence and the remedy."""

    def fail(_: str) -> ModuleType:
        raise error

    monkeypatch.setattr(importlib, "import_module", fail)
    assert agents.load() is None
    (warning,) = warned()
    assert str(error) in warning
    assert "traces go on" in warning
    assert "Install pyroscope-io" in warning


def test_module_that_is_not_installed(monkeypatch: pytest.MonkeyPatch, warned: Callable[[], list[str]]) -> None:
    """The same, by the import system's own word."""
    monkeypatch.setitem(sys.modules, "pyroscope", None)
    assert agents.load() is None
    assert len(warned()) == 1


def test_other_interpreter(pyroscope: Pyroscope, monkeypatch: pytest.MonkeyPatch, warned: Callable[[], list[str]]) -> None:
    """Its native module is made for CPython only, so it is not even tried elsewhere."""
    monkeypatch.setattr(agents, "sys", SimpleNamespace(implementation=SimpleNamespace(name="pypy")))
    assert agents.load() is None
    assert "pypy" in warned()[0]
    assert pyroscope.agents == []


def test_importing_us() -> None:
    """`pyroscope` is the application's to import, or ours at the start of the agent: never a side effect."""
    code = (
        "import sys, otel_profiling_configurator, otel_profiling_configurator.configurator;sys.exit('pyroscope' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=30).returncode == 0


@pytest.mark.parametrize(
    ("native", "used"),
    [
        (SimpleNamespace(add_thread_tag=1, remove_thread_tag=2), "native"),
        (SimpleNamespace(add_thread_tag=1), "module"),
        (None, "module"),
    ],
    ids=["both", "one", "none"],
)
def test_module_that_labels_threads(native: Any, used: str) -> None:
    """The native functions, which cost least, where the module still has them."""
    module = ModuleType("pyroscope")
    if native is not None:
        module.lib = native  # type: ignore[attr-defined]
    assert agents.tag_module(module) is (native if used == "native" else module)


def test_stop_in_a_child_without_an_agent(pyroscope: Pyroscope, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no hook heard of the fork, the agent of the parent is not shut down: that would end the child."""
    agent = started(pyroscope)
    parent = os.getpid()
    monkeypatch.setattr(os, "getpid", lambda: parent + 1)
    agent.stop()
    assert pyroscope.shutdowns == 0
    monkeypatch.undo()
    agent.stop()
    assert pyroscope.shutdowns == 1


def test_free_threaded_python(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Without the GIL nothing is imported that would need it; one warning says so."""
    monkeypatch.setattr(sys, "_is_gil_enabled", lambda: False, raising=False)
    assert agents.load() is None
    (record,) = caplog.records
    assert "free-threaded" in record.getMessage()
