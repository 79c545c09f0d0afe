"""What pages show that is no block of commands, and that readers copy all the same: files, commands within lines, reports."""

from __future__ import annotations

import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
from otel_profiling_configurator import environment_variables

from otel_profiling_distro.doctor import server
from otel_profiling_distro.doctor.asking import Answer, Kind
from otel_profiling_distro.receiver import Receiver

from .pages import DOCS, PAGES, REPOSITORY, Block, blocks, code
from .test_commands import APP, RUN, environment

COMMANDS = (
    "opentelemetry-instrument ",
    "opentelemetry-bootstrap ",
    "otel-profiling ",
    "pip install",
    "kill ",
    "systemctl ",
    "curl ",
)
"""What a command within a line begins with; `make` and files of this repository are looked up by `test_pages`."""

ELSEWHERE = {
    "kill -HUP": "tests/integration/test_servers.py::test_gunicorn_reloaded",
    "kill -USR2 4711": "tests/docs/test_examples.py::test_running_process",
    "opentelemetry-instrument --help": "tests/docs/test_examples.py::test_flags",
    "opentelemetry-instrument gunicorn app:app": "tests/integration/test_servers.py::test_gunicorn",
    "opentelemetry-instrument python -c pass": "tests/benchmarks/startup.py::main",
    "otel-profiling doctor --json": "tests/integration/test_doctor.py::test_all_is_well",
    "otel-profiling run -- gunicorn -w 2 app:app": "tests/page/test_run.py::test_server_with_workers",
    "otel-profiling serve": "tests/page/test_serve.py::test_two_ports",
    "pip install --upgrade pip": "tests/docs/test_examples.py::test_upgrade_of_pip",
}
"""Commands within lines that no block has, to the test that runs them. It may need more than the pages' tests have."""


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as receiver:
        yield receiver


def run_app(receiver: Receiver, folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the reader's application in a folder, under `opentelemetry-instrument`."""
    (folder / "app.py").write_text(APP.read_text())
    done = subprocess.run(
        ["opentelemetry-instrument", "python", "app.py"],  # noqa: S607 - as the page has it
        cwd=folder,
        env=without_addresses(environment(receiver)) | variables,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    print(done.stdout, done.stderr)  # shown by pytest if the test fails
    assert done.returncode == 0
    return done


def without_addresses(environ: Mapping[str, str]) -> dict[str, str]:
    left_out = ("OTEL_PROFILING_SERVER_ADDRESS", "OTEL_EXPORTER_OTLP_ENDPOINT")
    return {name: value for name, value in environ.items() if name not in left_out}


def test_configuration_file(receiver: Receiver, tmp_path: Path) -> None:
    """The file that the page shows sets up the SDK and profiling: what it says holds, without a warning of ours."""
    pytest.importorskip("opentelemetry.configuration", reason="comes with opentelemetry-configuration")
    (shown,) = blocks(DOCS / "settings.md", "yaml")
    (tmp_path / "otel.yaml").write_text(shown.text)
    addresses = {"PROFILES_URL": receiver.url, "TRACES_URL": receiver.url}
    done = run_app(receiver, tmp_path, OTEL_CONFIG_FILE="otel.yaml", **addresses)
    samples = [sample for sample in receiver.samples("checkout") if any(frame.function == "busy" for frame in sample.stack)]
    assert {sample.series["team"] for sample in samples} == {"payments"}
    assert {sample.label("span_name") for sample in samples} == {"GET /search"}
    assert receiver.spans("checkout")
    assert "otel-profiling" not in done.stderr


def test_systemd_unit(receiver: Receiver, tmp_path: Path) -> None:
    """What the unit starts, with the variables of its file, is what every page starts; nothing in it is unknown to systemd."""
    page = DOCS / "systemd.md"
    (unit,) = blocks(page, "ini")
    (variables,) = [block for block in blocks(page, "text") if "OTEL_SERVICE_NAME" in block.text]
    started = re.search(r"^ExecStart=(.*)$", unit.text, re.MULTILINE)
    assert started is not None
    assert [Path(word).name for word in shlex.split(started[1])] == ["opentelemetry-instrument", "python", "app.py"]
    environ = dict(line.split("=", 1) for line in variables.text.splitlines())
    told = {name: re.sub(r"http://localhost:\d+", receiver.url, value) for name, value in environ.items()}
    done = run_app(receiver, tmp_path, **told)
    samples = receiver.samples("checkout")
    assert {sample.series["deployment_environment"] for sample in samples} == {"production"}
    assert all(sample.series["hostname"] for sample in samples)
    assert done.stderr == ""


def test_report_of_the_doctor() -> None:
    """The fault that the page shows is the one that comes, word for word."""
    (shown,) = [block for block in blocks(DOCS / "troubleshooting.md", "text") if "self-test" in block.text]
    finding = server.judge(Answer(Kind.ANSWER, 404), "http://collector:4318", speaks_otlp=True)
    text = " ".join(shown.text.split())
    assert f"fault server {finding.fact} {finding.consequence} -> {finding.remedy}" in text


@contextmanager
def running(receiver: Receiver) -> Iterator[subprocess.Popen[str]]:
    """Yield a profiled process that reports at USR2, as the page has it."""
    program = "import sys; print('runs', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        ["opentelemetry-instrument", sys.executable, "-c", program],  # noqa: S607 - of this environment
        env=environment(receiver) | {"OTEL_PROFILING_REPORT_SIGNAL": "USR2"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "runs\n"
        yield process
        process.communicate("")


@pytest.mark.skipif(sys.platform != "linux", reason="a process can be looked at on Linux")
def test_running_process(receiver: Receiver) -> None:
    """The page's two ways to ask one work: the doctor from outside, and a signal."""
    page = DOCS / "troubleshooting.md"
    (block,) = [block for block in blocks(page, "sh") if "--pid" in block.text]
    (kill,) = [command for command in code(page) if command.startswith("kill ")]
    with running(receiver) as process:
        command = f"{block.text}\n{kill}".replace("4711", str(process.pid))
        done = subprocess.run(
            ["bash", "-euc", command],  # noqa: S607 - any bash
            env=environment(receiver),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        print(done.stdout, done.stderr)
        assert done.returncode == 0
        assert process.stderr is not None
        assert f"process {process.pid}" in process.stderr.readline()
    assert "Profiles would arrive." in done.stdout
    assert process.returncode != -signal.SIGUSR2


def commands_within_lines() -> Iterator[str]:
    for page in PAGES:
        yield from (command for command in code(page) if command.startswith(COMMANDS) and "..." not in command)


@pytest.mark.parametrize("command", sorted(set(commands_within_lines())))
def test_command_within_a_line(command: str) -> None:
    """A block that is run has it, or another test runs it."""
    run: list[Block] = [block for page in PAGES for block in RUN[page]]
    if command in ELSEWHERE:
        path, _, name = ELSEWHERE[command].partition("::")
        assert re.search(rf"^def {name}\(", (REPOSITORY / path).read_text(), re.MULTILINE)
    else:
        assert any(command in block.text for block in run)


def test_upgrade_of_pip(receiver: Receiver) -> None:
    """As far as can be seen without a package index: what is named is an option and a package."""
    command = ["pip", "install", "--upgrade", "pip"]
    assert subprocess.run(command, env=environment(receiver), capture_output=True, check=False, timeout=60).returncode == 0


def test_commands_elsewhere() -> None:
    """None of them has gone from the pages."""
    assert ELSEWHERE.keys() <= set(commands_within_lines())


def test_flags(receiver: Receiver) -> None:
    """Each setting is a flag in the help, and upstream has no room for a text, as the page says (0.66b1)."""
    command = ["opentelemetry-instrument", "--help"]
    done = subprocess.run(command, env=environment(receiver), capture_output=True, text=True, check=True, timeout=60)
    for name in environment_variables.DEFAULTS:
        flag = name.removeprefix("OTEL_").lower()
        assert re.search(rf"^  --{flag} {flag.upper()}$", done.stdout, re.MULTILINE)
