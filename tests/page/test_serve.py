"""`otel-profiling serve` as a process: several applications on the usual two ports, and what it says about safety."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator

import pytest

from .shop import MS, START, profile, spans
from .uploads import PUSH, TRACES

SERVE = [sys.executable, "-m", "otel_profiling_distro.commands", "serve"]


def free_ports() -> tuple[str, str]:
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
        return str(one.getsockname()[1]), str(other.getsockname()[1])


class Served:
    """A running server."""

    def __init__(self, *arguments: str) -> None:
        self.profiles_port, self.traces_port = free_ports()
        ports = ["--profiles-port", self.profiles_port, "--traces-port", self.traces_port]
        self.process = subprocess.Popen(
            [*SERVE, *ports, *arguments],
            stderr=subprocess.PIPE,
            text=True,
            # A background job of a shell ignores SIGINT; a terminal's does not.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # noqa: PLW1509 - takes no lock
        )
        assert self.process.stderr is not None
        self.said: list[str] = []
        for line in self.process.stderr:
            self.said.append(line)
            if "the page is at" in line:
                break

    def request(self, port: str, path: str, body: bytes | None = None, **headers: str) -> bytes:
        request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", body, headers)
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 - our own server
            return answer.read()


@pytest.fixture
def serve() -> Iterator[Callable[..., Served]]:
    started: list[Served] = []

    def serve_(*arguments: str) -> Served:
        started.append(Served(*arguments))
        return started[-1]

    yield serve_
    for one in started:
        one.process.kill()
        one.process.wait()


def test_two_ports(serve: Callable[..., Served]) -> None:
    """Profiles and traces of several applications come on their own ports; the page has both."""
    server = serve()
    assert len(server.said) == 2
    assert f":{server.profiles_port}" in server.said[0]
    assert f":{server.traces_port}" in server.said[0]
    for service in ("shop", "bank"):
        server.request(server.profiles_port, PUSH, profile(service, [("main:1", 10 * MS, {})], start_ns=START))
        server.request(server.traces_port, TRACES, spans(service, ("a1" * 16, "a1" * 8, "", "GET /", 0, 5)))
    (page,) = re.findall(r"the page is at (http://\S+?);", server.said[1])
    with urllib.request.urlopen(f"{page}/api/overview", timeout=10) as answer:  # noqa: S310 - our own server
        services = json.load(answer)["services"]
    assert [(one["name"], one["cpu_ns"], one["spans"]) for one in services] == [("bank", 10 * MS, 1), ("shop", 10 * MS, 1)]


@pytest.mark.parametrize(
    ("number", "code", "said"), [(signal.SIGINT, 0, ""), (signal.SIGTERM, 143, "otel-profiling: terminated\n")]
)
def test_end(number: int, code: int, said: str, serve: Callable[..., Served]) -> None:
    """Ctrl-C is how it ends; a kept-alive connection does not hold it up."""
    server = serve()
    with socket.create_connection(("127.0.0.1", int(server.profiles_port)), 5) as client:
        client.sendall(b"GET /api/state HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert client.recv(4096).startswith(b"HTTP/1.1 200")
        server.process.send_signal(number)
        # The client stays connected for five minutes otherwise.
        _, errors = server.process.communicate(timeout=120)
    assert (server.process.returncode, errors) == (code, said)


def test_listening_to_others(serve: Callable[..., Served]) -> None:
    """On an address that others reach there is a warning; names are refused but those that were allowed."""
    server = serve("--host", "0.0.0.0", "--allow-host", "profiles")  # noqa: S104 - what is tested
    warning = server.said[0]
    assert "whoever reaches this machine can read the profiles" in warning
    assert "without --host only this machine can" in warning
    assert server.request(server.profiles_port, "/api/state", Host="profiles:4040")
    with pytest.raises(urllib.error.HTTPError, match="403"):
        server.request(server.profiles_port, "/api/state", Host="evil.example")


def test_age(serve: Callable[..., Served]) -> None:
    """What is older than asked for goes by itself."""
    server = serve("--max-age", "0.01")
    server.request(server.profiles_port, PUSH, profile("shop", [("main:1", 10 * MS, {})]))
    deadline = time.monotonic() + 30
    while json.loads(server.request(server.profiles_port, "/api/overview"))["services"]:
        assert time.monotonic() < deadline
        server.request(server.profiles_port, "/api/state")
        time.sleep(0.05)
