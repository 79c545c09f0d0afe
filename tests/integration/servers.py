"""Starts servers as a user does, asks them for work, and checks that every worker's profile arrived."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from .conftest import APPS, BY_PROCESS, SERVICE, assert_labelled, bin_path, environment


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_until(condition, what, seconds=60):
    """Return what `condition` returns as soon as it is true."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"waited {seconds} s for {what}"
        time.sleep(0.05)
    return value


class Server:
    """A command that runs under ``opentelemetry-instrument`` until `stop`; its output is kept in a file.

    Args:
        command: ``{port}`` stands for a free port. The first word is looked up beside the interpreter.
        receiver: Where profiles and traces go.
        folder: Where the application's modules are.
    """

    def __init__(self, command, receiver, output, folder=APPS, **variables):
        self.port = free_port()
        self.receiver = receiver
        self._output = Path(output)
        program, *arguments = (str(part).format(port=self.port) for part in command)
        program = bin_path(program) if Path(bin_path(program)).exists() else program
        with self._output.open("wb") as file:
            self.process = subprocess.Popen(
                [bin_path("opentelemetry-instrument"), program, *arguments],
                env=environment(
                    receiver,
                    **{"OTEL_PROFILING_UPLOAD_INTERVAL": "1s", "OTEL_BSP_SCHEDULE_DELAY": "300", **BY_PROCESS, **variables},
                ),
                cwd=folder,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                # A background job of a shell ignores SIGINT, and so would what it starts.
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # noqa: PLW1509 - takes no lock
            )

    @property
    def output(self):
        return self._output.read_text(errors="replace")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        print(self.output)  # shown by pytest if the test fails

    def get(self, path="/"):
        """Ask for work and return who did it."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=30) as response:
            return json.load(response)

    def first(self):
        """Wait until the server answers."""

        def answer():
            assert self.process.poll() is None, "the server ended early"
            try:
                return self.get()
            except (urllib.error.URLError, ConnectionError):
                return None

        return wait_until(answer, "the server's first answer")

    def work(self, workers=2, at_least=2):
        """Have each of so many workers answer at least so many requests; return all answers."""
        told = [self.first()]

        def enough():
            pids = [answer["pid"] for answer in told]
            return sum(pids.count(pid) >= at_least for pid in set(pids)) >= workers

        with ThreadPoolExecutor(4) as clients:
            for _ in range(30):
                if enough():
                    return told
                told += clients.map(lambda _: self.get(), range(4))
        raise AssertionError(f"one worker does it all: {told}")

    def stop(self, number=signal.SIGTERM):
        """Send a signal to the main process and return its exit code."""
        self.process.send_signal(number)
        return self.process.wait(30)


def key(answer):
    """What tells one piece of work from all others: the process, and the function's name there."""
    return answer["pid"], answer["function"]


def assert_profiled(receiver, told):
    """Every answer's work arrived, with its own span's labels, under its own process and instance."""
    samples = receiver.samples(SERVICE)
    by_function = {}
    for sample in samples:
        for frame in sample.stack:
            if frame.function.startswith("busy_"):
                by_function.setdefault((int(sample.series["process_pid"]), frame.function), []).append(sample)
    instances = {}
    for answer in told:
        for sample in by_function.get(key(answer), []):
            instances.setdefault(answer["pid"], set()).add(sample.series.get("service_instance_id"))
    assert set(instances) == {answer["pid"] for answer in told}, "a worker without a profile"
    # A piece of work is 12 samples long on average; that all of one are missed is rarer than one in 100,000.
    missed = set(map(key, told)) - set(by_function)
    assert not missed, f"no sample of {missed}; there are {[(who, len(found)) for who, found in by_function.items()]}"
    for answer in told:
        right = {"span_id": answer["span_id"], "trace_id": answer["trace_id"], "span_name": f"GET {answer['function']}"}
        assert_labelled(by_function[key(answer)], right, share=0.6)
    mine = [(sample, answer) for answer in told for sample in by_function[key(answer)]]
    total = sum(sample.count for sample, _ in mine)
    right = sum(sample.count for sample, answer in mine if sample.label("span_id") == answer["span_id"])
    assert right / total >= 0.95, f"{right} of {total}"
    return instances


def assert_own_instances(instances):
    """Each process calls itself a service instance of its own."""
    assert all(len(ids) == 1 and None not in ids for ids in instances.values()), instances
    assert len({next(iter(ids)) for ids in instances.values()}) == len(instances), instances


def assert_quiet(server):
    for word in ("Traceback", "panicked", "otel-profiling WARNING"):
        assert word not in server.output
