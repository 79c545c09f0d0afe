"""What the agent says becomes one warning when losses begin, one when they end, and a new start where it has stopped."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterator

import pytest
from otel_profiling_configurator import guard
from otel_profiling_configurator.agent.server_watch import CALM, RESTART_SECONDS, ServerWatch
from otel_profiling_configurator.log import logger

SERVER = "http://pyroscope:4040"
REFUSED = b' 2026-11-28T09:25:51.109Z ERROR Pyroscope::Session > Sending Session failed 401 {"message":"no org id"}\n'
UNSENT = b"ERROR _native::session > SessionManager - Failed to send session: error sending request for url (http://pyroscope)\n"
PANIC = b"\nthread '<unnamed>' panicked at src/sampler.rs:12:3:\ncalled `Option::unwrap()` on a `None` value\n"

INTERVAL = 10.0


def nothing() -> None:
    """Find all else as it should be."""


class Agent:
    """Says what a test has it say, and counts how often it is started again."""

    def __init__(self) -> None:
        self.words: list[bytes] = []
        self.starts = 0
        self.can_start = True
        self.listened = threading.Event()

    def take_words(self) -> bytes:
        self.listened.set()
        return self.words.pop(0) if self.words else b""

    def restart(self) -> bool:
        self.starts += 1
        return self.can_start


@pytest.fixture
def agent() -> Agent:
    return Agent()


@pytest.fixture
def look(agent: Agent, warned: Callable[[], list[str]]) -> Callable[..., list[str]]:
    """Look at what the agent has said by a time; return what is warned of."""
    watch = ServerWatch(SERVER, INTERVAL, agent.take_words, agent.restart, nothing)

    def look(now: float, *words: bytes) -> list[str]:
        before = len(warned())
        agent.words.append(b"".join(words))
        watch.look(now)
        return warned()[before:]

    return look


def test_all_is_well(look: Callable[..., list[str]], agent: Agent) -> None:
    """Nothing is said, whatever else the agent says."""
    assert [look(now, words) for now, words in ((0.0, b""), (10.0, b"INFO something\n\xff"))] == [[], []]
    assert agent.starts == 0


def test_losses(look: Callable[..., list[str]]) -> None:
    """One warning when they begin, with the server's words and a remedy, and one when they have ended."""
    (begin,) = look(10.0, REFUSED)
    assert begin.startswith(f'profiles don\'t reach {SERVER}: it answers 401 {{"message":"no org id"}}. ')
    assert "OTEL_PROFILING_TENANT_ID" in begin
    assert "a line will say when they arrive again" in begin
    assert look(20.0, REFUSED, UNSENT) == []
    assert look(30.0) == []
    assert look(20.0 + CALM * INTERVAL - 0.1) == []
    assert look(20.0 + CALM * INTERVAL) == [f"profiles reach {SERVER} again; 3 uploads were lost in 10 s"]
    assert look(1000.0) == []


def test_losses_that_come_and_go(look: Callable[..., list[str]]) -> None:
    """While some uploads fail and others do not, nothing is said anew."""
    assert len(look(10.0, UNSENT)) == 1
    assert [look(float(now), UNSENT if now % 20 else b"") for now in range(20, 300, 10)] == [[]] * 28
    (end,) = look(330.0)
    assert "again" in end


def test_losses_twice(look: Callable[..., list[str]]) -> None:
    """Each time has its own two lines."""
    said = [look(0.0, UNSENT), look(100.0), look(200.0, REFUSED), look(300.0)]
    assert [len(lines) for lines in said] == [1, 1, 1, 1]
    assert said[1] == [f"profiles reach {SERVER} again; 1 upload was lost in 0 s"]
    assert "401" in said[2][0]


def test_sampler_that_has_stopped(look: Callable[..., list[str]], agent: Agent) -> None:
    """The agent is started again, with one warning that says where it stopped."""
    (line,) = look(10.0, PANIC)
    assert agent.starts == 1
    assert "src/sampler.rs:12:3)" in line
    assert "started again" in line
    assert look(20.0) == []


def test_line_in_pieces(look: Callable[..., list[str]], agent: Agent) -> None:
    """What is said in several pieces is heard when its line is complete, once."""
    assert look(0.0, PANIC[:30]) == []
    assert look(10.0, PANIC[30:40]) == []
    (line,) = look(20.0, PANIC[40:])
    assert "src/sampler.rs:12:3)" in line
    assert look(100.0) == []
    assert agent.starts == 1


def test_sampler_that_stops_again_and_again(look: Callable[..., list[str]], agent: Agent) -> None:
    """It is started once a minute, and has not been forgotten when the minute is over."""
    look(0.0, PANIC)
    for now in range(1, int(RESTART_SECONDS)):
        assert look(float(now), PANIC) == []
    assert agent.starts == 1
    assert len(look(RESTART_SECONDS)) == 1
    assert agent.starts == 2
    assert look(2 * RESTART_SECONDS) == []


def test_failure_to_start_again(agent: Agent, warned: Callable[[], list[str]]) -> None:
    """Nothing is said of a new start that was none."""

    def fail() -> bool:
        raise OSError("no thread")

    agent.words.append(PANIC)
    with pytest.raises(OSError, match="no thread"):
        ServerWatch(SERVER, INTERVAL, agent.take_words, fail, nothing).look(0.0)
    assert warned() == []


def test_agent_that_can_not_be_started_again(agent: Agent, look: Callable[..., list[str]]) -> None:
    """It is said that nothing more is profiled, instead of that it runs again."""
    agent.can_start = False
    (line,) = look(0.0, PANIC)
    assert "can't be started again; nothing more of this process is profiled" in line
    assert "was started again" not in line


def test_agent_of_the_application(agent: Agent, warned: Callable[[], list[str]]) -> None:
    """Once it has replaced ours, nothing is said of where ours sent its profiles."""
    watch = ServerWatch(SERVER, INTERVAL, agent.take_words, agent.restart, nothing)
    agent.words.append(UNSENT)
    watch.look(0.0)
    assert len(warned()) == 1
    watch.forget_agent()
    watch.look(CALM * INTERVAL + 1)
    assert len(warned()) == 1


# The thread


@pytest.fixture
def watching(agent: Agent) -> Iterator[ServerWatch]:
    watch = ServerWatch(SERVER, 0.001, agent.take_words, agent.restart, nothing)
    watch.start()
    yield watch
    watch.stop()
    with watch._speaking:
        pass  # a line that is being written is this test's, not the next one's


def test_thread(agent: Agent) -> None:
    """Somebody listens, without being asked, and nobody sees a thread by `threading`."""
    before = threading.active_count()
    watch = ServerWatch(SERVER, 0.001, agent.take_words, agent.restart, nothing)
    watch.start()
    assert agent.listened.wait(10)
    assert threading.active_count() == before
    watch.stop()


def test_thread_that_has_logged(agent: Agent, caplog: pytest.LogCaptureFixture) -> None:
    """Nobody sees it by `threading` then, either."""
    before = threading.enumerate()
    agent.words.append(REFUSED)
    watch = ServerWatch(SERVER, 0.001, agent.take_words, agent.restart, nothing)
    watch.start()
    for _ in range(10_000):
        if caplog.records and threading.enumerate() == before:
            break
        threading.Event().wait(0.001)
    assert caplog.records[0].threadName.startswith("Dummy")
    assert threading.enumerate() == before
    watch.stop()


def test_stopped(watching: ServerWatch, agent: Agent) -> None:
    """Nobody listens any more, soon after."""
    ended = threading.Event()
    end = watching._end
    watching.stop()
    watching.stop()
    # The thread has taken the lock by which it is ended; it does nothing after that.
    for _ in range(10_000):
        if end.locked():
            ended.set()
            break
        threading.Event().wait(0.001)
    assert ended.is_set()
    agent.listened.clear()
    assert not agent.listened.wait(0.05)


def test_failure_of_ours(agent: Agent, monkeypatch: pytest.MonkeyPatch, warned: Callable[[], list[str]]) -> None:
    """It is reported once, and listening goes on."""
    monkeypatch.setattr(guard, "reraise", False)
    calls = 0
    enough = threading.Event()

    def fail() -> bytes:
        nonlocal calls
        calls += 1
        if calls == 3:
            enough.set()
        raise OSError("of ours")

    watch = ServerWatch(SERVER, 0.001, fail, agent.restart, nothing)
    watch.start()
    assert enough.wait(10)
    watch.stop()
    assert len([line for line in warned() if "listen to the agent" in line]) == 1


class Slow(logging.Handler):
    """Is in the middle of a line until it is told to go on."""

    def __init__(self) -> None:
        super().__init__()
        self.begun, self.go_on = threading.Event(), threading.Event()

    def emit(self, record: logging.LogRecord) -> None:
        if "profiles don't reach" in record.getMessage():  # not a line that another test's thread is late with
            self.begun.set()
            self.go_on.wait(10)


@pytest.fixture
def slow() -> Iterator[Slow]:
    handler = Slow()
    logger.addHandler(handler)
    yield handler
    handler.go_on.set()
    logger.removeHandler(handler)


def test_fork_while_a_line_is_written(watching: ServerWatch, agent: Agent, slow: Slow) -> None:
    """The fork waits for its end: the child would inherit the handler's lock. None begins until the fork is over."""
    agent.words.append(REFUSED)
    assert slow.begun.wait(10)
    threading.Timer(0.02, slow.go_on.set).start()
    watching.before_fork()
    assert slow.go_on.is_set()
    assert watching._speaking.locked()
    watching.after_fork_in_parent()
    assert not watching._speaking.locked()


def test_fork_while_a_handler_is_slow(watching: ServerWatch, agent: Agent, slow: Slow) -> None:
    """The fork does not wait for long, and nothing is given back that was not had."""
    agent.words.append(REFUSED)
    assert slow.begun.wait(10)
    watching.before_fork()
    watching.after_fork_in_parent()
    assert watching._speaking.locked(), "the line is still being written"


def test_in_a_forked_child(agent: Agent, warned: Callable[[], list[str]]) -> None:
    """What the parent has said is not said again; whoever finds first that losses have ended says so."""
    watch = ServerWatch(SERVER, INTERVAL, agent.take_words, agent.restart, nothing)
    agent.words.append(REFUSED)
    watch.look(0.0)
    assert len(warned()) == 1
    watch.start()
    agent.words.append(REFUSED)
    watch.look(10.0)
    assert len(warned()) == 1
    watch.look(1000.0)
    (_, end) = warned()
    assert end == f"profiles reach {SERVER} again; 2 uploads were lost in 10 s"
    watch.stop()


def test_last_words(agent: Agent, caplog: pytest.LogCaptureFixture) -> None:
    """What the last upload met with is said, also if the line is not complete: to those who ask for more."""
    caplog.set_level(logging.INFO, logger.name)
    watch = ServerWatch(SERVER, INTERVAL, agent.take_words, agent.restart, nothing)
    agent.words.append(REFUSED.rstrip())
    watch.hear_last_words()
    (record,) = caplog.records
    assert record.levelno == logging.INFO
    assert record.getMessage().startswith(f"profiles don't reach {SERVER}: it answers 401 ")
    assert record.getMessage().endswith("The last profile of this process is lost, its traces are not.")


def test_last_words_of_an_agent_that_is_started_again(agent: Agent, warned: Callable[[], list[str]]) -> None:
    """The process goes on, and warns of what fails as ever."""
    watches: list[ServerWatch] = []

    def restart() -> bool:
        agent.words.insert(0, REFUSED)
        watches[0].hear_last_words()
        return True

    agent.words.append(PANIC)
    watches.append(ServerWatch(SERVER, 0.001, agent.take_words, restart, nothing))
    watches[0].start()
    for _ in range(10_000):
        if len(warned()) >= 2:
            break
        threading.Event().wait(0.001)
    watches[0].stop()
    line = warned()[1]  # and perhaps one that uploads arrive again: the intervals are short
    assert "401" in line
    assert "last profile" not in line


def test_last_words_in_a_forked_child(agent: Agent, monkeypatch: pytest.MonkeyPatch, warned: Callable[[], list[str]]) -> None:
    """They are a warning: others go on and lose theirs, too."""
    watch = ServerWatch(SERVER, INTERVAL, agent.take_words, agent.restart, nothing)
    monkeypatch.setattr(os, "getpid", lambda: 1)
    agent.words.append(REFUSED)
    watch.hear_last_words()
    (line,) = warned()
    assert "401" in line


def test_last_words_of_a_daemons_parent(agent: Agent, warned: Callable[[], list[str]]) -> None:
    """They are said to those who ask for more only, so the daemon, which lives on, still warns."""
    parent = ServerWatch(SERVER, INTERVAL, agent.take_words, agent.restart, nothing)
    agent.words.append(REFUSED)
    parent.hear_last_words()
    assert warned() == []
    agent.words.append(REFUSED)
    parent.look(10.0)  # the watch of the child, which has a copy of it
    (line,) = warned()
    assert "401" in line


def test_last_words_after_others(agent: Agent, warned: Callable[[], list[str]]) -> None:
    """What has been said is not said again, and the end of a process is not the end of losses."""
    watch = ServerWatch(SERVER, INTERVAL, agent.take_words, agent.restart, nothing)
    agent.words.append(REFUSED)
    watch.look(0.0)
    agent.words.append(REFUSED)
    watch.hear_last_words()
    watch.hear_last_words()
    assert len(warned()) == 1
