"""The watch over the profile server: what it asks, what it makes of answers, and when it speaks."""

from __future__ import annotations

import base64
import contextlib
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from otel_profiling_configurator import log
from otel_profiling_configurator.agent import server_watch
from otel_profiling_configurator.agent.server_watch import Probe, ServerWatch
from otel_profiling_configurator.settings import Settings

OK = b"HTTP/1.1 200 OK\r\n\r\n"


class Server:
    """Accepts connections, keeps what was asked, and answers `answer`; with None it never answers."""

    def __init__(self) -> None:
        self.answer: bytes | None = OK
        self.requests: list[bytes] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._kept: list[socket.socket] = []
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.requests.append(connection.recv(65536))
            if self.answer is None:
                self._kept.append(connection)
                continue
            connection.sendall(self.answer)
            connection.close()

    def close(self) -> None:
        with contextlib.suppress(OSError):  # the test closed it
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in self._kept:
            connection.close()


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


def test_request(server: Server) -> None:
    """It is an empty push, where the agent sends its own, with the agent's credentials."""
    settings = Settings(
        server_address=f"{server.url}/base",
        basic_auth_user="somebody",
        basic_auth_password="hunter2",
        tenant_id="team-a",
        headers={"X-Api-Key": "k"},
    )
    assert Probe(settings).ask() == ""
    first, *headers = server.requests[0].decode().removesuffix("\r\n\r\n").split("\r\n")
    assert first == "POST /base/push.v1.PusherService/Push HTTP/1.1"
    assert dict(header.split(": ", 1) for header in headers) == {
        "host": server.url.removeprefix("http://"),
        "content-type": "application/proto",
        "content-length": "0",
        "connection": "close",
        "authorization": "Basic " + base64.b64encode(b"somebody:hunter2").decode(),
        "x-scope-orgid": "team-a",
        "x-api-key": "k",
    }


def test_credentials_in_the_address(server: Server) -> None:
    """They are sent, decoded, and not as part of the host's name."""
    address = server.url.replace("http://", "http://some%40body:p%3Aw@")
    assert Probe(Settings(server_address=address)).ask() == ""
    assert b"Basic " + base64.b64encode(b"some@body:p:w") in server.requests[0]
    assert f"host: {server.url.removeprefix('http://')}\r\n".encode() in server.requests[0]


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n", ""),
        (b"HTTP/1.1 204 No Content\r\n\r\n", ""),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", ""),  # Pyroscope's answer to an empty push
        (b"HTTP/1.1 401 Unauthorized\r\n\r\n", "credentials (401)"),
        (b"HTTP/1.1 403 Forbidden\r\n\r\n", "(403)"),
        (b"HTTP/1.1 404 Not Found\r\n\r\n", "(404)"),
        (b"HTTP/1.1 413 Payload Too Large\r\n\r\n", "(413)"),
        (b"HTTP/1.1 429 Too Many Requests\r\n\r\n", "(429)"),
        (b"HTTP/1.1 503 Service Unavailable\r\n\r\n", "it fails (503)"),
        (b"220 mail.example ESMTP\r\n", "not HTTP"),
        (b"", "without an answer"),
        (b"HTTP/1.1 what\r\n\r\n", "invalid literal"),
    ],
)
def test_answers(server: Server, answer: bytes, problem: str) -> None:
    """Each answer that costs the profile is a problem, in words."""
    server.answer = answer
    said = Probe(Settings(server_address=server.url)).ask()
    assert problem in said
    assert bool(said) == bool(problem)


def test_server_that_hangs(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is given up after as long as the agent would wait."""
    monkeypatch.setattr(server_watch, "ANSWER_SECONDS", 0.2)
    server.answer = None
    assert "no answer within" in Probe(Settings(server_address=server.url)).ask()


def test_server_that_is_down(server: Server) -> None:
    """What the system says is what is said."""
    server.close()
    assert Probe(Settings(server_address=server.url)).ask() == "Connection refused"


def test_name_that_does_not_resolve() -> None:
    """That is said in so many words."""
    assert "does not resolve" in Probe(Settings(server_address="http://does-not-exist.invalid")).ask()


@pytest.mark.parametrize("host", ["x" * 300, "bücher.invalid", "a..b.invalid"])
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_strange_names(scheme: str, host: str) -> None:
    """A name that no resolver takes is a problem when it is asked for, and none before."""
    assert Probe(Settings(server_address=f"{scheme}://{host}")).ask()


def test_tls_beside_a_plain_server(server: Server) -> None:
    """An address with the wrong scheme is a problem, too."""
    assert Probe(Settings(server_address=server.url.replace("http:", "https:"))).ask()


class Answers:
    """Plays a probe: hands out the answers it is given, the last one for ever."""

    def __init__(self, *answers: str) -> None:
        self.answers = list(answers)
        self.asked = 0

    def ask(self) -> str:
        self.asked += 1
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


@pytest.fixture
def watching(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., ServerWatch]]:
    """Start a watch with an interval of next to nothing over a server that gives these answers."""
    watches: list[ServerWatch] = []

    def watching(answers: Answers, sending: bool = True) -> ServerWatch:
        monkeypatch.setattr(server_watch, "Probe", lambda _settings: answers)
        settings = Settings(upload_interval=0)
        watch = ServerWatch(settings, lambda: sending)
        watches.append(watch)
        watch.start()
        return watch

    yield watching
    for watch in watches:
        watch.stop()


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_outage(watching: Callable[..., ServerWatch], caplog: pytest.LogCaptureFixture) -> None:
    """One line when it begins, one when it ends, however long it takes."""
    answers = Answers("", "broken", "broken", "broken", "broken", "", "")
    watching(answers)
    wait_until(lambda: answers.asked > 10)
    first, second = (record.getMessage() for record in caplog.records)
    assert first.startswith("profiles don't reach http://localhost:4040: broken.")
    assert second.startswith("profiles reach http://localhost:4040 again, after ")


def test_single_failure(watching: Callable[..., ServerWatch], caplog: pytest.LogCaptureFixture) -> None:
    """It is no outage."""
    answers = Answers("", "broken", "", "broken", "")
    watching(answers)
    wait_until(lambda: answers.asked > 10)
    assert caplog.records == []


def test_no_agent(watching: Callable[..., ServerWatch], caplog: pytest.LogCaptureFixture) -> None:
    """While none of ours runs, nobody is asked."""
    answers = Answers("broken")
    watching(answers, sending=False)
    time.sleep(0.05)
    assert answers.asked == 0
    assert caplog.records == []


@pytest.mark.parametrize("anew", [False, True])
def test_stopped(anew: bool, watching: Callable[..., ServerWatch]) -> None:
    """After `stop`, which may be called twice, nobody is asked any more; nor by a watch that ended as another was started.

    In a fork that is only played, for one, the parent's thread is still there.
    """
    answers = Answers("")
    watch = watching(answers)
    if anew:
        watch.start()
    wait_until(lambda: answers.asked > 1)
    watch.stop()
    watch.stop()
    time.sleep(0.05)
    asked = answers.asked
    time.sleep(0.05)
    assert answers.asked == asked


def test_fork_while_a_line_is_written(watching: Callable[..., ServerWatch], caplog: pytest.LogCaptureFixture) -> None:
    """Between the hook before a fork and the one after it no line is written; then it is."""
    answers = Answers("broken")
    watch = watching(Answers(""))
    watch.before_fork()
    watch._probe = answers  # type: ignore[assignment] # plays one
    wait_until(lambda: answers.asked >= 2)
    time.sleep(0.05)
    assert caplog.records == []
    watch.after_fork_in_parent()
    wait_until(lambda: bool(caplog.records))


def test_fork_while_a_handler_is_slow(watching: Callable[..., ServerWatch], caplog: pytest.LogCaptureFixture) -> None:
    """It is not waited for, and the watch goes on: the end of the outage is told, too."""
    entered, go_on = threading.Event(), threading.Event()

    class Slow(logging.Handler):
        def emit(self, _record: logging.LogRecord) -> None:
            entered.set()
            go_on.wait(10)

    handler = Slow()
    log.logger.addHandler(handler)
    answers = Answers("broken")
    watch = watching(answers)
    assert entered.wait(10)
    watch.before_fork()
    watch.after_fork_in_parent()
    go_on.set()
    answers.answers.append("")
    wait_until(lambda: "again" in caplog.text)


def test_secrets(
    watching: Callable[..., ServerWatch], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The address is shown without the password in it."""
    answers = Answers("broken")
    monkeypatch.setattr(server_watch, "Probe", lambda _settings: answers)
    watch = ServerWatch(Settings(server_address="http://u:hunter2@host", upload_interval=0), lambda: True)
    watch.start()
    wait_until(lambda: bool(caplog.records))
    watch.stop()
    assert "hunter2" not in caplog.text
    assert "http://***@host" in caplog.text
    assert watching
