"""`otel-profiling demo` as a user runs it: a process of its own, with a real service and the real agent."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
import uuid
from collections import Counter
from pathlib import Path

import pytest

from otel_profiling_distro import page
from otel_profiling_distro.demo.contract import SERVICE_NAME, SHOP_MODULE
from otel_profiling_distro.demo.service import Service, ServiceError, environment, instrumented
from otel_profiling_distro.receiver import Receiver

from .doctoring import PUSH, server_that
from .servers import wait_until

ASSETS = Path(page.__file__).parent / "static"
COMMAND = [sys.executable, "-m", "otel_profiling_distro.commands", "demo"]

WORK = {
    "score_title": "GET /search",
    "compare_tastes": "GET /recommend/<int:customer>",
    "price_basket": "POST /checkout",
    "assess_fraud": "POST /checkout",
    "write_invoice": "POST /checkout",
    "add_up_orders": "GET /report",
}
"""The route that each busy function of the shop works for."""


@pytest.fixture
def mark() -> str:
    """An environment variable's value by which every process of one demo can be told from all others."""
    return uuid.uuid4().hex


def run(*arguments: str, mark: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments], env=os.environ | {"DEMO_MARK": mark}, capture_output=True, text=True, timeout=90, check=False
    )


def running(mark: str) -> list[int]:
    """Processes, but for this one, that have the mark in their environment."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            environ = (process / "environ").read_bytes()
        except OSError:
            continue  # ended meanwhile, or somebody else's
        if f"DEMO_MARK={mark}".encode() in environ.split(b"\0") and int(process.name) != os.getpid():
            found.append(int(process.name))
    return found


def wait_until_none_runs(mark: str) -> None:
    wait_until(lambda: running(mark) == [], "the end of all processes")


def test_demo(mark: str) -> None:
    """The demo prints every route, how they link, and a trace with its profile; plain text, and nothing is left."""
    result = run("--seconds", "4", mark=mark)
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    assert "\x1b" not in result.stdout
    for route in WORK.values():
        assert route in result.stdout
    for expected in ("outside any span", "of the samples carry a span", "pyroscope.profile.id", "profile "):
        assert expected in result.stdout
    assert running(mark) == []


@pytest.mark.skipif(not (ASSETS / "index.html").exists(), reason="the page was not built: make page")
def test_demo_with_the_page(mark: str) -> None:
    """With --keep the demo's last line says where the page is; it shows what the report says, until Ctrl-C."""
    demo = subprocess.Popen(
        [*COMMAND, "--seconds", "3", "--keep"],
        env=os.environ | {"DEMO_MARK": mark},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # noqa: PLW1509 - takes no lock
    )
    try:
        assert demo.stdout is not None
        lines: list[str] = []
        for line in demo.stdout:
            lines.append(line)
            if found := re.search(r"until Ctrl-C: (http://127\.0\.0\.1:\d+)$", line):
                break
        assert found, lines
        with urllib.request.urlopen(f"{found[1]}/api/routes?service={SERVICE_NAME}", timeout=10) as answer:  # noqa: S310 - the page
            shown = json.load(answer)
        assert {route["route"] for route in shown["routes"]} == {*WORK.values(), None}
        busiest = shown["routes"][0]
        assert busiest["hottest"][0]["function"] in WORK
        assert any(busiest["route"] in line for line in lines)
        with urllib.request.urlopen(found[1], timeout=10) as answer:  # noqa: S310 - the page
            assert b"<title>" in answer.read()
        demo.send_signal(signal.SIGINT)
        output, errors = demo.communicate(timeout=30)
    finally:
        demo.kill()
    assert (demo.returncode, output, errors) == (0, "", "")
    wait_until_none_runs(mark)


def test_demo_with_own_servers() -> None:
    """With --server and --otlp the real data goes there: at least 97 % of all samples of work have the right span."""
    with Receiver() as receiver:
        result = run("--seconds", "6", "--server", receiver.url, "--otlp", receiver.url)
        assert result.returncode == 0, result.stderr
        samples, spans = receiver.samples(SERVICE_NAME), receiver.spans(SERVICE_NAME)

    assert result.stdout.count(receiver.url) == 2  # where to look, for profiles and for traces
    owners = {span.attributes.get("pyroscope.profile.id"): span for span in spans}
    right: Counter[bool] = Counter()
    for sample in samples:
        route = next((WORK[f.function] for f in sample.stack if f.function in WORK), None)
        if route is not None:
            owner = owners.get(sample.label("span_id"))
            labels = (sample.label("span_name"), sample.label("trace_id"))
            right[owner is not None and labels == (route, owner.trace_id) == (owner.name, owner.trace_id)] += sample.count
    assert right.total() > 100
    assert right[True] / right.total() >= 0.97, right


@pytest.mark.parametrize(
    ("option", "path", "said"),
    [("--server", PUSH, "it answers 429"), ("--otlp", "/v1/traces", "Failed to export span")],
    ids=["profiles", "traces"],
)
def test_server_that_refuses_after_the_first_time(option: str, path: str, said: str) -> None:
    """What it takes from whoever asks first, and not from the demo, did not arrive: one line has its answer, exit code 1."""
    asked: Counter[str] = Counter()

    def status_of(requested: str, _headers: object) -> int:
        asked[requested] += 1
        return 200 if requested == path and asked[path] == 1 else 429 if option == "--server" else 400

    with server_that(status_of) as server:
        result = run("--seconds", "2", option, f"http://{server}")
    assert asked[path] > 1
    assert result.returncode == 1
    assert "not all that the demo sent was taken: " in result.stderr
    assert said in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert result.stdout == ""


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="finds what is left running through /proc")
@pytest.mark.parametrize(
    ("number", "code", "line"),
    [
        (signal.SIGINT, 130, "otel-profiling: interrupted\n"),
        (signal.SIGTERM, 143, "otel-profiling: terminated\n"),
        (signal.SIGKILL, -signal.SIGKILL, ""),
    ],
)
def test_end_in_the_middle(number: int, code: int, line: str, mark: str) -> None:
    """Ctrl-C and SIGTERM cost one line and the usual exit code; even after SIGKILL nothing is left running."""
    with Receiver() as receiver:
        demo = subprocess.Popen(
            [*COMMAND, "--seconds", "60", "--server", receiver.url, "--otlp", receiver.url],
            env=os.environ | {"DEMO_MARK": mark, "OTEL_BSP_SCHEDULE_DELAY": "200"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            # A background job of a shell ignores SIGINT, and so would what it starts; a terminal's does not.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # noqa: PLW1509 - takes no lock
        )
        try:
            wait_until(receiver.spans, "a span")
            assert len(running(mark)) >= 2  # the demo and its service
            demo.send_signal(number)
            _, errors = demo.communicate(timeout=30)
        finally:
            demo.kill()
        assert demo.returncode == code
        assert errors == line
        wait_until_none_runs(mark)


def test_service_that_fails_at_start() -> None:
    """What a service printed before it ended is in the error, with its exit code."""
    code = "import sys; print('no such table: goods', file=sys.stderr); sys.exit(3)"
    with Service([sys.executable, "-c", code], os.environ) as service, pytest.raises(ServiceError) as error:
        service.wait_until_listening()
    assert "exit code 3" in str(error.value)
    assert "no such table: goods" in str(error.value)


def test_service_that_dies_later(mark: str) -> None:
    """A service that ends while customers use it is noticed."""
    code = "print('listening on http://127.0.0.1:1', flush=True); print('out of memory')"
    with Service([sys.executable, "-c", code], os.environ | {"DEMO_MARK": mark}) as service:
        assert service.wait_until_listening() == "http://127.0.0.1:1"
        # Not once: a process that has ended is seen as ended a little later.
        with pytest.raises(ServiceError, match="ended early, exit code 0"):
            wait_until(service.check, "the end of the service")
    wait_until_none_runs(mark)


def test_service_that_does_not_end(mark: str) -> None:
    """A service that ignores SIGTERM is killed in the end, and so are the children it leaves behind."""
    code = (
        "import signal, subprocess, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']);"
        "print('listening on http://127.0.0.1:1', flush=True); time.sleep(600)"
    )
    service = Service([sys.executable, "-c", code], os.environ | {"DEMO_MARK": mark}, stop_seconds=0.5)
    with service:
        service.wait_until_listening()
        assert running(mark)
    wait_until_none_runs(mark)


def test_shop_without_the_script(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where `opentelemetry-instrument` is not beside the interpreter, its module does the same."""
    link = tmp_path / "python"
    link.symlink_to(sys.executable)
    monkeypatch.setattr(sys, "executable", str(link))
    command = instrumented(SHOP_MODULE)
    assert command[0] == str(link)
    monkeypatch.undo()
    command = [sys.executable if part == str(link) else part for part in command]
    with Receiver() as receiver:
        with Service(command, environment(os.environ, None, None, receiver.url)) as service:
            service.wait_until_listening()
            time.sleep(1.5)
        assert receiver.samples(SERVICE_NAME)
