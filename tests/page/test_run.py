"""`otel-profiling run -- X` is X: exit code, output, input and signals; and what X did can be seen."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

RUN = [sys.executable, "-m", "otel_profiling_distro.commands", "run"]

WORK = """
import sys, time
from opentelemetry import trace
def busy_here(seconds):
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass
with trace.get_tracer("test").start_as_current_span("job"):
    busy_here(0.5)
"""

ENDINGS = {
    "exit code": "import sys; print('out', sys.argv[1:]); print('in', sys.stdin.read()); sys.exit(7)",
    "success": "print('done')",
    "exception": "raise ValueError('no')",
    "exit message": "import sys; sys.exit('a reason')",
    "killed": "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
    "terminated": "import os, signal; os.kill(os.getpid(), signal.SIGTERM)",
    "interrupted": "import os, signal; signal.signal(2, signal.SIG_DFL); os.kill(os.getpid(), signal.SIGINT)",
    "broken pipe": "import os, signal; signal.signal(signal.SIGPIPE, signal.SIG_DFL); os.kill(os.getpid(), signal.SIGPIPE)",
    "bytes": "import sys; sys.stdout.buffer.write(bytes(range(256)) * 300)",
}


def environment(**more: str) -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "PYROSCOPE_"))} | more


@pytest.mark.parametrize("ending", ENDINGS)
def test_script(ending: str) -> None:
    """However a script ends, it ends so under `run`, with the same output."""
    command = [sys.executable, "-c", ENDINGS[ending], "an argument", "--option"]
    plain, profiled = (
        subprocess.run(
            [*prefix, *command], input=b"some input", env=environment(), capture_output=True, timeout=60, check=False
        )
        for prefix in ([], [*RUN, "--quiet", "--"])
    )
    assert (profiled.returncode, profiled.stdout) == (plain.returncode, plain.stdout)
    assert plain.stderr in profiled.stderr


def test_program_that_is_no_python() -> None:
    """A program ends by a pipe that nobody reads any more, as it does without us: it ignores no signal because of Python."""
    command = ["sh", "-c", "kill -s PIPE $$; echo still here"]
    done = subprocess.run([*RUN, "--quiet", "--", *command], env=environment(), capture_output=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (-signal.SIGPIPE, b"")


def test_folder_with_modules_of_familiar_names(tmp_path: Path) -> None:
    """A folder whose modules are called like those of the standard library is no trouble for what starts the command."""
    for name in ("signal", "argparse", "logging"):
        (tmp_path / f"{name}.py").write_text("raise RuntimeError('imported')")
    # As users call it: `python -m` would look into the folder by itself.
    script = str(Path(sys.executable).with_name("otel-profiling"))
    command = [script, "run", "--quiet", "--", "sh", "-c", "echo done"]
    done = subprocess.run(command, env=environment(), cwd=tmp_path, capture_output=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, b"done\n")


@pytest.mark.parametrize(("exists", "code", "reason"), [(False, 127, "command not found"), (True, 126, "permission denied")])
def test_command_that_can_not_be_run(exists: bool, code: int, reason: str, tmp_path: Path) -> None:
    """A command that does not exist, or may not be run, costs one line and the exit code of shells."""
    command = tmp_path / "command"
    if exists:
        command.write_text("")
    done = subprocess.run(
        [*RUN, "--", str(command)], env=environment(), capture_output=True, text=True, timeout=30, check=False
    )
    assert (done.returncode, done.stdout) == (code, "")
    assert done.stderr == f"otel-profiling: {command}: {reason}\n"


def test_pytest(tmp_path: Path) -> None:
    """A test run with a failure has pytest's exit code and output."""
    (tmp_path / "test_it.py").write_text("def test_good(): pass\ndef test_bad(): assert False\n")
    command = [*RUN, "--quiet", "--", sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)]
    done = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "1 failed, 1 passed" in done.stdout


class Started:
    """`otel-profiling run` at work."""

    def __init__(self, *arguments: str, **variables: str) -> None:
        self.errors: list[str] = []
        self.output: list[str] = []
        self.process = subprocess.Popen(
            [*RUN, *arguments],
            env=environment(**variables),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # A background job of a shell ignores SIGINT, and so would what it starts; a terminal's does not.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # noqa: PLW1509 - takes no lock
        )
        self.readers = [
            threading.Thread(target=lines.extend, args=(stream,), daemon=True)
            for lines, stream in ((self.errors, self.process.stderr), (self.output, self.process.stdout))
        ]
        for reader in self.readers:
            reader.start()

    def wait_for(self, pattern: str, lines: list[str]) -> re.Match[str]:
        return wait_until(lambda: next((m for line in list(lines) if (m := re.search(pattern, line))), None), pattern, lines)

    @property
    def url(self) -> str:
        return self.wait_for(r"the page is (?:still )?at (http://\S+?);?\s", self.errors)[1]

    def ask(self, view: str) -> Any:
        with urllib.request.urlopen(f"{self.url}/api/{view}", timeout=10) as answer:  # noqa: S310 - its own page
            return json.load(answer)

    def end(self) -> int:
        code = self.process.wait(60)
        for reader in self.readers:
            reader.join(10)
        return code


def wait_until(condition: Callable[[], Any], what: str, told: object = "", seconds: float = 60) -> Any:
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"waited {seconds} s for {what}: {told}"
        time.sleep(0.05)
    return value


@pytest.fixture
def start() -> Iterator[Callable[..., Started]]:
    started: list[Started] = []

    def start_(*arguments: str, **variables: str) -> Started:
        started.append(Started(*arguments, **variables))
        return started[-1]

    yield start_
    for one in started:
        if one.process.poll() is None:
            one.process.send_signal(signal.SIGTERM)
            try:
                one.process.wait(10)
            except subprocess.TimeoutExpired:
                one.process.kill()


TELLS = """
import signal, sys, time
def tell(number, frame):
    print("got", signal.Signals(number).name, flush=True)
    if number != signal.SIGUSR1:
        sys.exit(5)
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1):
    signal.signal(number, tell)
print("at work", flush=True)
while True:
    time.sleep(0.1)
"""


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT"])
def test_signals(name: str, start: Callable[..., Started]) -> None:
    """A signal that is sent to `run` reaches the command once, and its exit code comes back."""
    run = start("--quiet", "--", sys.executable, "-c", TELLS)
    run.wait_for("at work", run.output)
    run.process.send_signal(signal.SIGUSR1)
    run.wait_for("got SIGUSR1", run.output)
    run.process.send_signal(getattr(signal, name))
    assert run.end() == 5
    assert run.output == ["at work\n", "got SIGUSR1\n", f"got {name}\n"]


def test_signal_that_ends_the_command(start: Callable[..., Started]) -> None:
    """A command that a signal ends makes `run` end by the same one, after the report."""
    run = start(
        "--", sys.executable, "-c", f"{WORK}\nprint('at work', flush=True)\ntime.sleep(60)", OTEL_BSP_SCHEDULE_DELAY="100"
    )
    run.wait_for("at work", run.output)
    wait_until(lambda: run.ask("overview")["services"], "a span")
    run.process.send_signal(signal.SIGTERM)
    assert run.end() == -signal.SIGTERM
    assert "job" in "".join(run.errors)


def terminal(command: list[str], say: Callable[[bytes], bytes | None]) -> tuple[int, bytes]:
    """Run a command in a terminal; `say` is given all output so far, and returns keys to press or None."""
    pid, terminal_ = pty.fork()
    if pid == 0:
        os.execve(command[0], command, environment())  # noqa: S606 - our own command
    output = b""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            output += (chunk := os.read(terminal_, 65536))
        except OSError:  # how a terminal ends on Linux
            break
        if not chunk:
            break
        if keys := say(output):
            os.write(terminal_, keys)
    _, status = os.waitpid(pid, 0)
    os.close(terminal_)
    return os.waitstatus_to_exitcode(status), output


def test_terminal() -> None:
    """Ctrl-C in a terminal reaches the command once; the page's address and a report are shown."""
    pressed = []

    def say(output: bytes) -> bytes | None:
        if b"at work" in output and not pressed:
            pressed.append(True)
            return b"\x03"
        return None

    code, output = terminal([*RUN, "--", sys.executable, "-c", TELLS], say)
    assert code == 5
    assert output.count(b"got SIGINT") == 1
    assert b"the page is at http://127.0.0.1:" in output
    assert b"Traceback" not in output


def test_counts_in_a_terminal() -> None:
    """In a terminal it is said now and then how much has come in."""
    script = f"{WORK}\nprint('at work', flush=True)\nsys.stdin.readline()"

    def say(output: bytes) -> bytes | None:
        return b"\n" if b" so far" in output else None

    code, output = terminal([*RUN, "--", sys.executable, "-c", script], say)
    assert code == 0
    assert re.search(rb"otel-profiling: \d+ traces and \d+ samples so far", output), output


def test_keep(start: Callable[..., Started]) -> None:
    """With --keep the page stays after the command has ended, until Ctrl-C; the exit code is still the command's."""
    run = start("--keep", "--", sys.executable, "-c", f"{WORK}\nsys.exit(3)")
    run.wait_for("still at", run.errors)
    (service,) = run.ask("overview")["services"]
    assert (service["name"], service["traces"]) == (Path(sys.executable).name, 1)
    profile = run.ask(f"profile?service={service['name']}&route=job")
    assert "busy_here" in {frame[0] for frame in profile["frames"]}
    run.process.send_signal(signal.SIGINT)
    assert run.end() == 3


def test_own_settings(start: Callable[..., Started]) -> None:
    """What the user has set stays; where that means that something does not come, it is said."""
    own = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTEL_SERVICE_NAME": "mine", "OTEL_TRACES_EXPORTER": "none"}
    run = start("--", sys.executable, "-c", "import os; print(os.environ['OTEL_EXPORTER_OTLP_ENDPOINT'])", **own)
    assert run.end() == 0
    assert run.output == ["http://127.0.0.1:9\n"]
    said = "".join(run.errors)
    assert "traces go to http://127.0.0.1:9, as OTEL_EXPORTER_OTLP_ENDPOINT says, and not here" in said
    assert "profiling mine;" in said


APP = """
import time
def busy_view(seconds=0.02):
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass
def wsgi(environ, start_response):
    busy_view()
    start_response("200 OK", [("content-type", "text/plain")])
    return [b"hello"]
async def asgi(scope, receive, send):
    if scope["type"] == "http":
        busy_view()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"hello"})
"""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@pytest.mark.parametrize("server", ["gunicorn", "uvicorn"])
def test_server_with_workers(server: str, start: Callable[..., Started], tmp_path: Path) -> None:
    """A server with two workers serves, is profiled, and ends well when `run` is told to."""
    (tmp_path / "application.py").write_text(APP)
    port = str(free_port())
    command = {
        "gunicorn": [sys.executable, "-m", "gunicorn", "-w", "2", "-b", f"127.0.0.1:{port}", "application:wsgi"],
        "uvicorn": [sys.executable, "-m", "uvicorn", "--workers", "2", "--port", port, "application:asgi"],
    }[server]
    run = start("--", *command, PYTHONPATH=str(tmp_path))

    def served() -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5) as answer:
                return answer.read() == b"hello"
        except OSError:
            return False

    def functions() -> set[str]:
        served()
        return {frame[0] for frame in run.ask(f"profile?service={server}")["frames"]}

    wait_until(served, "the server")
    wait_until(lambda: "busy_view" in functions(), "a profile", run.errors)
    run.process.send_signal(signal.SIGTERM)
    # uvicorn ends by the signal that it was sent; gunicorn exits.
    assert run.end() in {0, -signal.SIGTERM}
    assert "busy_view" in "".join(run.errors)
