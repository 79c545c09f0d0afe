"""The command line: one clear line and a telling exit code for everything that can be wrong before the demo runs."""

from __future__ import annotations

import importlib.util
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from otel_profiling_configurator.native import native, why_missing

from otel_profiling_distro import __version__
from otel_profiling_distro.commands import demo, main
from otel_profiling_distro.demo.service import environment
from otel_profiling_distro.receiver import Receiver


@pytest.fixture
def busy_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture
def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@pytest.fixture(autouse=True)
def no_service(monkeypatch: pytest.MonkeyPatch) -> None:
    """These tests end before a service is started: one that does not must fail, not run for ten seconds."""

    def start(*_arguments: object) -> None:
        raise AssertionError("the demo service would have been started")

    monkeypatch.setattr(demo, "Service", start)


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    """--version says the version of the distribution and its form, on standard output."""
    with pytest.raises(SystemExit, match=r"^0$"):
        main(["--version"])
    form = f"without its native module: {why_missing}" if native is None else "with its native module"
    assert capsys.readouterr().out == f"otel-profiling {__version__} ({form})\n"


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ([], "required"),
        (["nonsense"], "nonsense"),
        (["demo", "--seconds", "0"], "more than 0"),
        (["demo", "--seconds", "nan"], "more than 0"),
        (["demo", "--seconds", "soon"], "no number"),
        (["demo", "--port", "65536"], "0 to 65535"),
        (["demo", "--port", "-1"], "0 to 65535"),
        (["demo", "--port", "http"], "0 to 65535"),
        (["demo", "--server", "localhost:4040"], "http://localhost:4040"),
        (["demo", "--server", "http://localhost:99999"], "99999"),
        (["demo", "--otlp", "grpc://localhost:4317"], "http://localhost:4040"),
        (["demo", "--max-age", "0"], "more than 0"),
        (["serve", "--traces-port", "65536"], "0 to 65535"),
        (["serve", "--max-memory", "much"], "no number"),
        (["run"], "which command?"),
        (["run", "--"], "which command?"),
        (["run", "--port", "-1", "--", "true"], "0 to 65535"),
        (["demo", "--port", "1", "--server", "http://a", "--otlp", "http://b"], "--port"),
    ],
)
def test_usage(arguments: list[str], reason: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A command line that makes no sense exits with 2 and says which part of it."""
    with pytest.raises(SystemExit, match=r"^2$"):
        main(arguments)
    assert reason in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--server", "--otlp"])
def test_unreachable_server(option: str, closed_port: int, capsys: pytest.CaptureFixture[str]) -> None:
    """A server that does not answer is found out before anything starts: one line that names option and address."""
    address = f"http://127.0.0.1:{closed_port}"
    assert main(["demo", option, address]) == 1
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err == f"otel-profiling: nothing answers at {address} ({option}): Connection refused\n"


def test_server_that_refuses(capsys: pytest.CaptureFixture[str]) -> None:
    """Before the demo starts, its server is asked: one line has the answer and what to do."""
    with Receiver(tenant="shop") as receiver:
        assert main(["demo", "--server", receiver.url]) == 1
    output = capsys.readouterr()
    assert output.out == ""
    assert "it answers 401" in output.err
    assert "OTEL_PROFILING_TENANT_ID" in output.err
    assert len(output.err.splitlines()) == 1


def test_endpoint_that_takes_no_traces(capsys: pytest.CaptureFixture[str]) -> None:
    """So is the endpoint of traces."""
    with Receiver() as receiver:
        assert main(["demo", "--otlp", f"{receiver.url}/elsewhere"]) == 1
    assert "does not take traces: it answers 404" in capsys.readouterr().err


def test_busy_port(busy_port: int, capsys: pytest.CaptureFixture[str]) -> None:
    """A port that is taken costs one line and exit code 1."""
    assert main(["demo", "--port", str(busy_port)]) == 1
    said = f"can't listen on 127.0.0.1:{busy_port}: Address already in use; --port takes another port"
    assert capsys.readouterr().err == f"otel-profiling: {said}\n"


@pytest.mark.parametrize("module", ["flask", "asgiref", "opentelemetry.instrumentation.flask"])
def test_missing_extra(module: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Without what the demo service is made of, the line says what to install."""
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == module else find_spec(name))
    assert main(["demo"]) == 1
    assert "pip install 'otel-profiling-distro[demo]'" in capsys.readouterr().err


@pytest.mark.parametrize(("number", "code", "line"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")])
def test_signal(number: int, code: int, line: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A signal ends the command with one line and the exit code that shells use; handlers are as before."""
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(demo, "Service", lambda *_: signal.raise_signal(number))
    # A shell has its background jobs, and what they start, ignore it.
    inherited = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        assert main(["demo"]) == code
    finally:
        signal.signal(signal.SIGINT, inherited)
    assert capsys.readouterr().err == f"otel-profiling: {line}\n"
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize("arguments", [["demo"], ["serve"], ["run", "--", sys.executable]])
@pytest.mark.parametrize("module", ["starlette", "uvicorn"])
def test_missing_receiver(
    arguments: list[str], module: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without what the receiver is made of, as in an application's environment, the line says what to install."""
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == module else find_spec(name))
    assert main(arguments) == 1
    assert "pip install 'otel-profiling-distro[page]'" in capsys.readouterr().err


def test_commands_without_the_receiver() -> None:
    """The command line itself needs neither Starlette nor uvicorn."""
    code = (
        "import sys; sys.modules['starlette'] = sys.modules['uvicorn'] = None;"
        "from otel_profiling_distro.commands import main; main(['--help'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 0, done.stderr
    assert "serve" in done.stdout


def _without_page(errors: str) -> list[str]:
    """Return the lines without the one that a clone says whose page was not built."""
    return [line for line in errors.splitlines() if "the page was not built" not in line]


def test_taken_port(busy_port: int, capsys: pytest.CaptureFixture[str]) -> None:
    """`serve` and `run` say which port is taken and what to do, and the command is not run."""
    assert main(["serve", "--profiles-port", str(busy_port), "--traces-port", "0"]) == 1
    assert main(["run", "--port", str(busy_port), "--", sys.executable, "-c", "print('ran')"]) == 1
    output = capsys.readouterr()
    taken = f"otel-profiling: can't listen on 127.0.0.1:{busy_port}: Address already in use"
    assert _without_page(output.err) == [
        f"{taken}; --profiles-port and --traces-port take others",
        f"{taken}; --port takes another port",
    ]
    assert output.out == ""


@pytest.mark.parametrize(
    ("host", "reason"),
    [
        ("192.0.2.1", "cannot assign requested address"),
        ("no-such-host.invalid", "name"),
    ],  # as the C library says it: "Name or service not known", or that it could not be resolved
)
def test_address_that_is_not_ours(host: str, reason: str, capsys: pytest.CaptureFixture[str]) -> None:
    """An address of another machine, and a name that nobody has, cost one line that says which."""
    assert main(["serve", "--host", host, "--profiles-port", "0", "--traces-port", "0"]) == 1
    (line,) = _without_page(capsys.readouterr().err)
    assert line.startswith(f"otel-profiling: can't listen on {host}:0: ")
    assert reason in line.lower()
    assert "--profiles-port" not in line


def test_folder_that_can_not_be_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Where the output can't be kept, that is said before the command is run."""
    (tmp_path / "file").write_text("")
    assert main(["run", "--output", str(tmp_path / "file" / "folder"), "--", sys.executable, "-c", "print('ran')"]) == 1
    output = capsys.readouterr()
    assert "can't make the folder" in output.err
    assert output.out == ""


RECEIVER = "http://127.0.0.1:1"


def test_environment_of_the_demo() -> None:
    """On its own the demo ignores what the user has set for OpenTelemetry and Pyroscope, and keeps the rest."""
    env = environment({"PATH": "/bin", "OTEL_SDK_DISABLED": "true", "PYROSCOPE_TENANT_ID": "t"}, None, None, RECEIVER)
    assert env["PATH"] == "/bin"
    assert "OTEL_SDK_DISABLED" not in env
    assert "PYROSCOPE_TENANT_ID" not in env
    assert env["OTEL_PROFILING_SERVER_ADDRESS"] == env["OTEL_EXPORTER_OTLP_ENDPOINT"] == RECEIVER


def test_environment_with_a_server() -> None:
    """Towards the user's own server their settings hold, such as credentials; the address given wins over them."""
    base = {"OTEL_PROFILING_BASIC_AUTH_USER": "me", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://old"}
    env = environment(base, "http://pyroscope", None, RECEIVER)
    assert env["OTEL_PROFILING_BASIC_AUTH_USER"] == "me"
    assert env["OTEL_PROFILING_SERVER_ADDRESS"] == "http://pyroscope"
    assert env["OTEL_EXPORTER_OTLP_ENDPOINT"] == RECEIVER
    assert "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT" not in env


def test_environment_with_a_proxy() -> None:
    """A proxy is kept, and kept away from this machine's own addresses."""
    env = environment({"HTTP_PROXY": "http://proxy", "NO_PROXY": "intranet"}, None, None, RECEIVER)
    assert env["HTTP_PROXY"] == "http://proxy"
    assert env["NO_PROXY"] == "intranet,127.0.0.1,localhost"
    assert env["no_proxy"] == "127.0.0.1,localhost"
