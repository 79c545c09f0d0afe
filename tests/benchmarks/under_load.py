"""Requests per second, p99 and CPU time: FastAPI and Flask under load, without profiling, with it, and with labels.

FastAPI runs on uvicorn with uvloop, Flask on a gunicorn worker with threads, under ``opentelemetry-instrument``. `wrk` keeps
some connections to the server busy, so that it is at its limit, while the server is put into one configuration after the other,
in random order: one process takes all the turns (`served.py` has how), since two that run the same code differ by more than
what is to be measured. It is started anew several times. Spans and profiles go to a server that takes everything and reads
nothing, and at the end it is made sure that they did. Ratios are between turns of the same round; figures are medians, with
95 % intervals from a bootstrap over the starts. CPU time is that of all the server's processes and threads, the agent's too,
for each request: where others use the machine it says more than requests per second do.

Run as ``python tests/benchmarks/under_load.py``; prints Markdown. (`http.py` it can't be called: Python would take it for its
own module of that name.)
"""

from __future__ import annotations

import argparse
import collections
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

import served
from intervals import Estimate, median_of

from otel_profiling_distro.receiver.body import decode_content
from otel_profiling_distro.receiver.pprof import decode_push

CONFIGURATIONS = {
    served.PLAIN: "plain OpenTelemetry",
    served.AGENT: "and the agent, no labels",
    served.PYROSCOPE_OTEL: "and pyroscope-otel",
    served.OURS: "otel-profiling-distro",
}
"""Name of a configuration to what it is called in the table."""

CONNECTIONS = 8
WARM_UP_SECONDS = 1
"""After a switch: the agent has just started, and its threads are found out."""
UPLOAD_SECONDS = 1
"""Between uploads of the agent: each turn has some. (The usual 10 would be longer than a turn.)"""
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

    def labelled(self) -> dict[str, float]:
        """Return the share of readings that have a span's name, for each application of which a profile came."""
        readings, named = collections.Counter[str](), collections.Counter[str]()
        for body in self.profiles:
            for sample in decode_push(body)[1]:
                application = sample.series["service_name"]
                readings[application] += sample.count
                named[application] += sample.count if sample.label("span_name") else 0
        return {application: named[application] / count for application, count in readings.items()}


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
    """Let a fresh server take turns for some rounds, and add those to `turns`."""
    with served_by(framework) as server:
        load(wrk, server, WARM_UP_SECONDS)
        for name in CONFIGURATIONS:
            turns[name].append([])
        names = list(CONFIGURATIONS)
        for _ in range(rounds):
            random.shuffle(names)  # not in a cycle: what one leaves in the machine's caches is not always for the same next one
            for name in names:
                server.enter(name)
                load(wrk, server, WARM_UP_SECONDS)
                turns[name][-1].append(load(wrk, server, seconds))


class Server(NamedTuple):
    """A server that was started."""

    url: str
    group: int
    """Its processes."""

    @property
    def item(self) -> str:
        """Where it does some work."""
        return f"{self.url}/items/7"

    def enter(self, configuration: str) -> None:
        """Put it into another configuration."""
        with urllib.request.urlopen(f"{self.url}/enter/{configuration}", timeout=30) as response:  # noqa: S310 - our own server
            if response.read().decode().strip('"\n') != configuration:
                raise RuntimeError(f"the server did not become {configuration}")


@contextlib.contextmanager
def served_by(framework: str) -> Iterator[Server]:
    """Start a server; in the end, make sure that it was in the configurations that it was put into.

    Raises:
        RuntimeError: it was not, or does not answer; with what the server has said.
    """
    sink = Sink()
    with tempfile.TemporaryFile() as log:
        try:
            with telling(log), started(framework, environment(sink.url), log) as server:
                yield server
            with telling(log):
                check(sink)
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
        server = Server(f"http://127.0.0.1:{port}", process.pid)
        wait_for(server.item, process)
        yield server
        # Both end in good order and send what they have. (By SIGTERM uvicorn kills itself in the end.)
        process.send_signal(signal.SIGINT if program == "uvicorn" else signal.SIGTERM)
        process.wait(30)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def environment(sink: str) -> dict[str, str]:
    """Return the environment of a server that begins with plain OpenTelemetry and sends to `sink`."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "PYROSCOPE_"))}
    return {
        **inherited,
        "PYTHONPATH": str(Path(__file__).parent),
        "OTEL_PYTHON_DISTRO": "distro",
        "OTEL_PYTHON_CONFIGURATOR": "configurator",
        "OTEL_PROFILING_ENABLED": "false",
        "OTEL_PYTHON_EXCLUDED_URLS": "/enter/",
        "OTEL_SERVICE_NAME": served.OURS,
        "OTEL_EXPORTER_OTLP_ENDPOINT": sink,
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        "OTEL_METRICS_EXPORTER": "none",
        "OTEL_LOGS_EXPORTER": "none",
        "OTEL_PROFILING_SERVER_ADDRESS": sink,
        "OTEL_PROFILING_UPLOAD_INTERVAL": f"{UPLOAD_SECONDS}s",
        "UNDER_LOAD_UPLOAD_SECONDS": str(UPLOAD_SECONDS),
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
        server.item,
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


def check(sink: Sink) -> None:
    """Make sure that spans arrived, and profiles with labels or without.

    Raises:
        RuntimeError: a configuration was not what it should have been.
    """
    labelled = sink.labelled()
    bare = labelled.pop(served.AGENT, None)
    if not sink.traces or bare != 0 or set(labelled) != {served.PYROSCOPE_OTEL, served.OURS} or min(labelled.values()) < 0.3:
        raise RuntimeError(f"{sink.traces} exports of spans; share of samples with a span: {labelled}, without labels: {bare}")


def shown(estimate: Estimate) -> str:
    """Return a ratio as a cell of the table."""
    return f"{estimate.median:.1%} ({estimate.low:.1%} to {estimate.high:.1%})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], epilog="All of it takes 24 minutes.")
    parser.add_argument("--generations", type=int, default=8, help="how often the server is started anew")
    parser.add_argument("--rounds", type=int, default=7, help="turns that each configuration takes then")
    parser.add_argument("--seconds", type=float, default=2.0, help="how long a turn is")
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
            for name, title in CONFIGURATIONS.items():
                figures.append({"framework": framework, "configuration": name, "turns": turns[name]})
                print(f"| {framework} | {title} | {' | '.join(cells(turns[name], turns[served.AGENT]))} |", flush=True)
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
