"""Requests per second, p99 and CPU time: FastAPI and Flask under load, without profiling, with it, and with labels.

FastAPI runs on uvicorn with uvloop, Flask on a gunicorn worker with threads, under ``opentelemetry-instrument``. `wrk` keeps
some connections to the server busy, so that it is at its limit, while the server is put into one configuration after the
other. One process takes all the turns (`served.py` has how), since two that run the same code differ by more than what is to
be measured. In a round each configuration, in random order, takes some turns of a few hundred requests: a few seconds, with an
upload of the agent's, since the machine, if others use it, is another one from one minute to the next. The server is started
anew (``--generations``).

A ratio is the geometric mean of those of all turns, without the highest and the lowest tenth, with a 95 % interval from a
bootstrap over the rounds; other figures are means in the same way. CPU time is that of all of the server's threads, the
agent's too, for each request. The 99th percentile of latency is what `wrk` says of a longer turn, one for each start. Spans
and profiles go to a server that takes everything and reads nothing, and at the end it is made sure that they did.

Run as ``python tests/benchmarks/under_load.py``; prints Markdown. (`http.py` it can't be called: Python would take it for its
own module of that name.)
"""

from __future__ import annotations

import argparse
import contextlib
import json
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
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import IO, Any, NamedTuple

import served
from intervals import Estimate, ratio_of, trimmed_mean

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
REQUESTS = 256
"""Of a turn: as many as end 1024 spans under FastAPI and 512 under Flask, so that each has as many exports as any other."""
WARMING_TURNS = 3
"""After the agent has started: its threads are found out."""
LATENCY_SECONDS = 20
"""How long `wrk` measures latencies: over two of the agent's uploads."""
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


class Figures(NamedTuple):
    """What was measured of one configuration."""

    rounds: list[list[tuple[float, float]]]
    """Requests per second and milliseconds of CPU time for each, for each turn of each round."""
    latencies: list[float]
    """Milliseconds in which 99 % of the requests were answered, for each start."""


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
        """Return the share of readings that have a span's name."""
        samples = [sample for body in self.profiles for profile in decode_push(body)[1] for sample in profile.samples]
        named = sum(sample.count for sample in samples if sample.label("span_name"))
        return named / max(1, sum(sample.count for sample in samples))


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


def generation(framework: str, rounds: int, turns: int, wrk: list[str], figures: dict[str, Figures]) -> None:
    """Let a fresh server take turns for some rounds, and add what they say to `figures`."""
    with served_by(framework) as server:
        for name, of_one in figures.items():
            server.enter(name)
            load(wrk, server, 1)
            of_one.latencies.append(load(wrk, server, LATENCY_SECONDS))
        with busy(wrk, server):
            for _ in range(rounds):
                for name in random.sample(list(figures), len(figures)):
                    taken = server.take([name] * (WARMING_TURNS + turns))
                    figures[name].rounds.append([turn[1:] for turn in taken[WARMING_TURNS:]])


class Server(NamedTuple):
    """A server that was started."""

    url: str
    group: int
    """Its process group."""

    @property
    def item(self) -> str:
        """Where it does some work."""
        return f"{self.url}/items/7"

    def enter(self, configuration: str) -> None:
        """Put it into another configuration, while it has nothing to do."""
        self._ask(f"enter/{configuration}")

    def take(self, configurations: Sequence[str]) -> list[tuple[str, float, float]]:
        """Put it into one configuration after the other while it is busy; return each, requests per second and ms of CPU time.

        Raises:
            RuntimeError: it serves no more.
        """
        self._ask(f"take/{REQUESTS}/{','.join(configurations)}")
        taken: list[tuple[str, int, float, float]] = []
        end = time.monotonic() + 60 + len(configurations) * 10
        while len(taken) < len(configurations):
            if time.monotonic() > end:
                raise RuntimeError(f"only {len(taken)} turns of {len(configurations)} were taken")
            time.sleep(1)
            taken = self._ask("taken")
        return [(name, requests / passed, used / requests * 1000) for name, requests, used, passed in taken]

    def _ask(self, path: str) -> Any:
        with urllib.request.urlopen(f"{self.url}/{path}", timeout=30) as response:  # noqa: S310 - our own server
            return json.load(response)


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
        "OTEL_PYTHON_EXCLUDED_URLS": "/enter/,/take",
        "OTEL_SERVICE_NAME": served.OURS,
        "OTEL_EXPORTER_OTLP_ENDPOINT": sink,
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        "OTEL_METRICS_EXPORTER": "none",
        "OTEL_LOGS_EXPORTER": "none",
        "OTEL_PROFILING_SERVER_ADDRESS": sink,
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


def command_of(wrk: list[str], server: Server, seconds: float) -> list[str]:
    """Return the command that keeps the server busy for some whole seconds."""
    duration = f"{max(1, round(seconds))}s"
    return [*wrk, "--threads", "1", "--connections", str(CONNECTIONS), "--duration", duration, server.item]


def load(wrk: list[str], server: Server, seconds: float) -> float:
    """Keep the server busy, and return the milliseconds in which 99 % of the requests were answered.

    Raises:
        RuntimeError: a request was not answered as it should be.
    """
    output = subprocess.run(command_of(wrk, server, seconds), check=True, capture_output=True, text=True).stdout
    report = json.loads(output.rpartition("report ")[2])
    if report["errors"]:
        raise RuntimeError(f"{report['errors']} requests failed:\n{output}")
    return float(report["p99"]) / 1000


@contextlib.contextmanager
def busy(wrk: list[str], server: Server) -> Iterator[None]:
    """Keep the server busy meanwhile."""
    process = subprocess.Popen(command_of(wrk, server, 24 * 3600), stdout=subprocess.DEVNULL)
    try:
        yield
        if process.poll() is not None:
            raise RuntimeError(f"the load ended early: {process.returncode}")
    finally:
        process.kill()
        process.wait()


def check(sink: Sink) -> None:
    """Make sure that spans arrived, and profiles with labels or without.

    Raises:
        RuntimeError: a configuration was not what it should have been.
    """
    labelled = sink.labelled()
    # Two of the three that have an agent label samples, and about half of the work is in spans.
    if not sink.traces or not 0.2 < labelled < 0.7:
        raise RuntimeError(f"{sink.traces} exports of spans; {labelled:.0%} of the samples have a span's name")


def shown(estimate: Estimate) -> str:
    """Return a ratio as a cell of the table."""
    return f"{estimate.value:.1%} ({estimate.low:.1%} to {estimate.high:.1%})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], epilog="All of it takes half an hour.")
    parser.add_argument("--generations", type=int, default=2, help="how often the server is started anew")
    parser.add_argument("--rounds", type=int, default=16, help="rounds for each start")
    parser.add_argument("--turns", type=int, default=12, help="that each configuration takes in a round")
    parser.add_argument("--frameworks", nargs="*", default=list(FRAMEWORKS), choices=FRAMEWORKS)
    parser.add_argument("--json", help="where to keep the figures")
    arguments = parser.parse_args()
    wrk = shutil.which("wrk")
    if wrk is None:
        sys.exit(
            "under_load.py needs wrk, which is not on the PATH: `apt-get install wrk` (Debian, Ubuntu), `brew install wrk`"
        )
    python, count = sys.version.split()[0], arguments.generations * arguments.rounds * arguments.turns
    print(f"Python {python}, {CONNECTIONS} connections, {count} turns of {REQUESTS} requests; with 95 % intervals\n")
    print("| | | requests/s | of plain OpenTelemetry | of the agent alone | p99 | CPU a request | of the agent alone |")
    print("|---|---|---|---|---|---|---|---|", flush=True)
    figures = []
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder, "report.lua")
        script.write_text(WRK_REPORT)
        for framework in arguments.frameworks:
            of_all = {name: Figures([], []) for name in CONFIGURATIONS}
            for _ in range(arguments.generations):
                generation(framework, arguments.rounds, arguments.turns, [wrk, "--script", str(script)], of_all)
            for name, title in CONFIGURATIONS.items():
                figures.append({"framework": framework, "configuration": name, **of_all[name]._asdict()})
                print(f"| {framework} | {title} | {' | '.join(cells(name, of_all))} |", flush=True)
    print()
    if arguments.json:
        kept = {"python": python, "connections": CONNECTIONS, "figures": figures}
        Path(arguments.json).write_text(json.dumps(kept, indent=1))


def cells(name: str, figures: dict[str, Figures]) -> list[str]:
    """Return the cells of one configuration: each figure, and its ratio to the same of other turns."""
    own, plain, agent = figures[name], figures[served.PLAIN], figures[served.AGENT]
    rates, used = zip(*(turn for turns in own.rounds for turn in turns), strict=True)
    return [
        f"{trimmed_mean(rates):.0f}",
        "" if own is plain else ratio(own, plain, 0),
        "" if own is agent else ratio(own, agent, 0),
        f"{statistics.median(own.latencies):.0f} ms",
        f"{trimmed_mean(used):.2f} ms",
        "" if own is agent else ratio(own, agent, 1),
    ]


def ratio(own: Figures, base: Figures, index: int) -> str:
    """Return a cell: one figure of all turns, to that of others in the same round."""
    pairs = [
        [(turn[index], other[index]) for turn, other in zip(turns, others, strict=True)]
        for turns, others in zip(own.rounds, base.rounds, strict=True)
    ]
    return shown(ratio_of(pairs))


if __name__ == "__main__":
    main()
