"""The agent's own lines, as pyroscope-io 1.4 writes them."""

from __future__ import annotations

import pytest
from otel_profiling_configurator.agent import words


def read(text: str) -> words.Words:
    return words.read(text.encode().split(b"\n"))


TIME = " 2026-11-28T09:25:51.109Z "
URL = "http://localhost:4040/push.v1.PusherService/Push"


@pytest.mark.parametrize(
    ("line", "reason", "remedy"),
    [
        (
            'ERROR Pyroscope::Session > Sending Session failed 401 {"code":"unauthenticated","message":"no org id"}',
            'it answers 401 {"code":"unauthenticated","message":"no org id"}',
            "OTEL_PROFILING_TENANT_ID",
        ),
        (
            'ERROR Pyroscope::Session > Sending Session failed 429 {"message":"Maximum active series limit exceeded (60/60)"}',
            'it answers 429 {"message":"Maximum active series limit exceeded (60/60)"}',
            "OTEL_PROFILING_SPAN_NAME_SCOPE=none",
        ),
        ("ERROR Pyroscope::Session > Sending Session failed 500 ", "it answers 500", "the server's log"),
        (
            f"ERROR _native::session > SessionManager - Failed to send session: error sending request for url ({URL})",
            f"error sending request for url ({URL})",
            "OTEL_PROFILING_SERVER_ADDRESS",
        ),
    ],
    ids=["tenant", "series", "no words", "not reached"],
)
def test_failures(line: str, reason: str, remedy: str) -> None:
    """Each is told with the server's words, and what to do."""
    said = read(f"INFO of no interest\n{TIME}{line}\n")
    assert said.panics == []
    ((told, advice),) = said.failures
    assert told == reason
    assert remedy in advice
    assert advice.endswith((".", "?"))


def test_remedies() -> None:
    """Each is a sentence."""
    assert all(remedy[0].isupper() and remedy.endswith((".", "?")) for remedy in words._REMEDIES.values())


def test_panics() -> None:
    """A thread that has ended says where."""
    said = read("thread '<unnamed>' panicked at src/a.rs:1:2:\nmessage\nthread 'b' panicked at 'message', src/b.rs:3:4\n")
    assert said == words.Words([], ["src/a.rs:1:2", "'message', src/b.rs:3:4"], [])


def test_nothing() -> None:
    """No words, no news."""
    assert read("") == words.read([]) == words.Words([], [], [])


def test_credentials() -> None:
    """A password in an address is not shown."""
    said = read("Failed to send session: error sending request for url (http://user:hunter2@host:4040/push)")
    assert said.failures[0].reason == "error sending request for url (http://***@host:4040/push)"


def test_answer_of_a_strange_server() -> None:
    """What it says is cut, and no control character of it reaches a terminal."""
    (failure,) = read("Sending Session failed 400 \x1b[31m\xe9'" + "x" * 10_000).failures
    assert failure.reason.isascii()
    assert failure.reason.isprintable()
    assert len(failure.reason) < 400
    assert "'" in failure.reason


def test_sampler_that_ended() -> None:
    """It is said why."""
    said = read(f"{TIME}ERROR _native > Backend shutdown error: Sampler Error: Failed to read PyCode_Type.tp_name\n")
    assert said == words.Words([], [], ["Sampler Error: Failed to read PyCode_Type.tp_name"])
