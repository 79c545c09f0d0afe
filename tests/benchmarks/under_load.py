"""Requests per second, p99 and CPU time: FastAPI and Flask under load, without profiling, with it, and with labels.

FastAPI runs on uvicorn with uvloop, Flask on a gunicorn worker with threads, under ``opentelemetry-instrument``. One server of
each configuration is started; `wrk` keeps some connections to one of them busy, so that it is at its limit, while the others
are stopped, and they take turns in random order: whatever else the machine does falls on all of them. They are started
anew several times. Spans and profiles go to a server that takes everything and reads nothing, and at the end it is made sure
that they did. Ratios are between turns of the same round; figures are medians, with 95 % intervals from a bootstrap over the
starts. CPU time is that of all the server's processes and threads, the agent's too, for each request: where others use the
machine it says more than requests per second do.

Run as ``python tests/benchmarks/under_load.py``; prints Markdown. (`http.py` it can't be called: Python would take it for its
own module of that name.)
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import random
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import IO, NamedTuple

from intervals import Estimate, median_of

from otel_profiling_distro.receiver.body import decode_content
from otel_profiling_distro.receiver.pprof import decode_push

UPSTREAM = {"OTEL_PYTHON_DISTRO": "distro", "OTEL_PYTHON_CONFIGURATOR": "configurator", "OTEL_PROFILING_ENABLED": "false"}
CONFIGURATIONS = {
    "plain OpenTelemetry": UPSTREAM,
    "and the agent, no labels": {**UPSTREAM, "UNDER_LOAD_AGENT": "agent"},
    "and pyroscope-otel": {**UPSTREAM, "UNDER_LOAD_AGENT": "pyroscope-otel"},
    "otel-profiling-distro": {"OTEL_PYTHON_DISTRO": "profiling", "OTEL_PYTHON_CONFIGURATOR": "profiling"},
}
"""Name to the environment that makes it."""
PLAIN, AGENT, *LABELLED = CONFIGURATIONS

CONNECTIONS = 8
WARM_UP_SECONDS = 2
UPLOAD_SECONDS = 4
"""Between uploads of the agent: fewer than a turn has, so that each turn has at least one, and fewer than the usual 10."""
PAUSE_SECONDS = 0.5
"""After a server goes on: the sampler first makes up for the samples that it missed."""
FRAMEWORKS = {
    "FastAPI": "uvicorn --factory served:fastapi_app --loop uvloop --no-access-log --log-level warning --port {port}",
    "Flask": f"gunicorn served:flask_app() --worker-class gthread --threads {CONNECTIONS} --keep-alive 60 --timeout 0 "
    "--log-level error --bind 127.0.0.1:{port}",
}
"""Framework to the command that serves it."""

WRK_REPORT = """
done = function(summary, latency, requests)
    local errors = summary.errors
    io.write(string.format('\\nreport {"requests": %d, "microseconds": %d, "p99": %d, "errors": %d}\\n',
        summary.requests, summary.duration, latency:percentile(99),
        errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
"""

Turn = tuple[float, float, float]
"""Requests per second, milliseconds in which 99 % of them were answered, and milliseconds of CPU time for each."""
UNITS = ("", " ms", " ms")


class Sink(ThreadingHTTPServer):
    """Takes whatever exporters and agents send, for nothing: reading it would take time from the server that is measured."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.traces = 0
        self.profiles: list[bytes] = []
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def labelled(self) -> float:
        """Return the share of readings that have a span's name, of all profiles that came."""
        samples = [sample for body in self.profiles for sample in decode_push(body)[1]]
        named = sum(sample.count for sample in samples if sample.label("span_name"))
        return named / sum(sample.count for sample in samples)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Sink

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.path == "/v1/traces":
            self.server.traces += 1
        else:
            self.server.profiles.append(decode_content(body, self.headers.get("content-encoding", "")))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name of the method that it replaces
        pass


def generation(framework: str, rounds: int, seconds: float, wrk: list[str], turns: dict[str, list[list[Turn]]]) -> None:
    """Let fresh servers take turns for some rounds, and add those to `turns`."""
    with contextlib.ExitStack() as stack:
        servers = {name: stack.enter_context(served(framework, name)) for name in CONFIGURATIONS}
        for name, server in servers.items():
            turns[name].append([])
            with server.going_on():
                load(wrk, server, WARM_UP_SECONDS)
        names = list(CONFIGURATIONS)
        for _ in range(rounds):
            random.shuffle(names)  # not in a cycle: what one leaves in the machine's caches is not always for the same next one
            for name in names:
                with servers[name].going_on():
                    turns[name][-1].append(load(wrk, servers[name], seconds))


class Server(NamedTuple):
    """A server that was started, and is stopped most of the time."""

    url: str
    group: int
    """Its processes."""

    @contextlib.contextmanager
    def going_on(self) -> Iterator[None]:
        """Let it run for a while."""
        os.killpg(self.group, signal.SIGCONT)
        time.sleep(PAUSE_SECONDS)
        yield
        os.killpg(self.group, signal.SIGSTOP)


@contextlib.contextmanager
def served(framework: str, configuration: str) -> Iterator[Server]:
    """Start a server and stop it until it is used; in the end, make sure that it was what it is called.

    Raises:
        RuntimeError: it was not, or does not answer; with what the server has said.
    """
    sink = Sink()
    with tempfile.TemporaryFile() as log:
        try:
            with started(framework, environment(configuration, sink.url), log) as server:
                yield server
            with telling(log):
                check(configuration, sink)
        finally:
            sink.shutdown()
            sink.server_close()


@contextlib.contextmanager
def telling(log: IO[bytes]) -> Iterator[None]:
    """Let an error tell what the server has said, too."""
    try:
        yield
    except RuntimeError as error:
        log.seek(0)
        raise RuntimeError(f"{error}\n{log.read().decode(errors='replace')}") from error


@contextlib.contextmanager
def started(framework: str, variables: dict[str, str], log: IO[bytes]) -> Iterator[Server]:
    """Start a server and end it."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    folder = Path(sys.executable).parent
    program, *options = FRAMEWORKS[framework].format(port=port).split()
    process = subprocess.Popen(
        [str(folder / "opentelemetry-instrument"), str(folder / program), *options],
        cwd=Path(__file__).parent,
        env=variables,
        stdout=log,
        stderr=log,
        start_new_session=True,
    )
    try:
        url = f"http://127.0.0.1:{port}/items/7"
        with telling(log):
            wait_for(url, process)
        os.killpg(process.pid, signal.SIGSTOP)
        yield Server(url, process.pid)
        os.killpg(process.pid, signal.SIGCONT)
        # Both end in good order and send what they have. (By SIGTERM uvicorn kills itself in the end.)
        process.send_signal(signal.SIGINT if program == "uvicorn" else signal.SIGTERM)
        process.wait(30)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def environment(configuration: str, server: str) -> dict[str, str]:
    """Return the environment of a server that sends to `server`."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "PYROSCOPE_"))}
    return {
        **inherited,
        "PYTHONPATH": str(Path(__file__).parent),
        "OTEL_SERVICE_NAME": "under-load",
        "OTEL_EXPORTER_OTLP_ENDPOINT": server,
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        "OTEL_METRICS_EXPORTER": "none",
        "OTEL_LOGS_EXPORTER": "none",
        "OTEL_PROFILING_SERVER_ADDRESS": server,
        "OTEL_PROFILING_UPLOAD_INTERVAL": f"{UPLOAD_SECONDS}s",
        "UNDER_LOAD_UPLOAD_SECONDS": str(UPLOAD_SECONDS),
        "UNDER_LOAD_SERVER": server,
        **CONFIGURATIONS[configuration],
    }


def wait_for(url: str, process: subprocess.Popen[bytes]) -> None:
    """Return when the server answers.

    Raises:
        RuntimeError: it ended, or did not answer for a long time.
    """
    end = time.monotonic() + 30
    while process.poll() is None and time.monotonic() < end:
        try:
            with urllib.request.urlopen(url, timeout=5):  # noqa: S310 - our own server
                return
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.05)
    raise RuntimeError(f"the server does not answer at {url}")


def load(wrk: list[str], server: Server, seconds: float) -> Turn:
    """Keep the server busy for a turn.

    Raises:
        RuntimeError: a request was not answered as it should be.
    """
    command = [
        *wrk,
        "--threads",
        "1",
        "--connections",
        str(CONNECTIONS),
        "--duration",
        f"{max(1, round(seconds))}s",
        server.url,
    ]
    before = cpu_seconds(server.group)
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    used = cpu_seconds(server.group) - before
    report = json.loads(output.rpartition("report ")[2])
    if report["errors"]:
        raise RuntimeError(f"{report['errors']} requests failed:\n{output}")
    requests = report["requests"]
    return requests / report["microseconds"] * 1e6, report["p99"] / 1000, used / requests * 1000


def cpu_seconds(group: int) -> float:
    """Return the CPU time that the processes of a group have used; not a number where there is no proc(5)."""
    ticks, found = 0, False
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has ended
            fields = path.read_text().rpartition(")")[2].split()
            if int(fields[2]) == group:
                found, ticks = True, ticks + int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK") if found else math.nan


def check(configuration: str, sink: Sink) -> None:
    """Make sure that spans arrived, and profiles with labels or without.

    Raises:
        RuntimeError: this was not the configuration that it should have been.
    """
    labelled = sink.labelled() if sink.profiles else None
    expected = {PLAIN: labelled is None, AGENT: labelled == 0}.get(configuration, labelled is not None and labelled > 0.3)
    if not expected or not sink.traces:
        raise RuntimeError(f"{configuration}: {sink.traces} exports of spans; share of samples with a span: {labelled}")


def shown(estimate: Estimate) -> str:
    """Return a ratio as a cell of the table."""
    return f"{estimate.median:.1%} ({estimate.low:.1%} to {estimate.high:.1%})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], epilog="All of it takes 22 minutes.")
    parser.add_argument("--generations", type=int, default=6, help="how often the servers are started anew")
    parser.add_argument("--rounds", type=int, default=4, help="turns that each server takes")
    parser.add_argument("--seconds", type=float, default=5.0, help="how long a turn is")
    parser.add_argument("--frameworks", nargs="*", default=list(FRAMEWORKS), choices=FRAMEWORKS)
    parser.add_argument("--json", help="where to keep the figures")
    arguments = parser.parse_args()
    wrk = shutil.which("wrk")
    if wrk is None:
        sys.exit(
            "under_load.py needs wrk, which is not on the PATH: `apt-get install wrk` (Debian, Ubuntu), `brew install wrk`"
        )
    python, count = sys.version.split()[0], arguments.generations * arguments.rounds
    print(f"Python {python}, {CONNECTIONS} connections, {count} turns of {arguments.seconds:g} s each; with 95 % intervals\n")
    print("| | | requests/s | of the agent alone | p99 | of the agent alone | CPU a request | of the agent alone |")
    print("|---|---|---|---|---|---|---|---|", flush=True)
    figures = []
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder, "report.lua")
        script.write_text(WRK_REPORT)
        for framework in arguments.frameworks:
            turns: dict[str, list[list[Turn]]] = {name: [] for name in CONFIGURATIONS}
            for _ in range(arguments.generations):
                generation(framework, arguments.rounds, arguments.seconds, [wrk, "--script", str(script)], turns)
            for name in CONFIGURATIONS:
                figures.append({"framework": framework, "configuration": name, "turns": turns[name]})
                print(f"| {framework} | {name} | {' | '.join(cells(turns[name], turns[AGENT]))} |", flush=True)
    print()
    if arguments.json:
        kept = {"python": python, "connections": CONNECTIONS, "figures": figures}
        Path(arguments.json).write_text(json.dumps(kept, indent=1))


def cells(turns: list[list[Turn]], of: list[list[Turn]]) -> list[str]:
    """Return the cells of one configuration: each figure, and its ratio to the same of other turns."""
    result = []
    for index, unit in enumerate(UNITS):
        median = statistics.median(turn[index] for group in turns for turn in group)
        result.append(f"{median:{'.2f' if unit else '.0f'}}{unit}")
        ratios = [
            [turn[index] / base[index] for turn, base in zip(group, bases, strict=True)]
            for group, bases in zip(turns, of, strict=True)
        ]
        result.append("" if turns is of else shown(median_of(ratios)))
    return result


if __name__ == "__main__":
    main()
