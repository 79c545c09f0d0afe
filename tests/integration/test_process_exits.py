"""Whatever way a process is made and ends: what it sampled arrives wherever it gets the chance to send it."""

import json
import signal
import subprocess
import sys

import pytest

from .conftest import APPS, BY_PROCESS, GAVE_UP, assert_nothing_said, bin_path, environment
from .servers import assert_own_instances, assert_profiled

LONG = {"OTEL_PROFILING_UPLOAD_INTERVAL": "60s", **BY_PROCESS}
"""So that nothing arrives but what is sent on the way out."""

CHILDREN = [
    *(f"{kind}-{method}" for kind in ("process", "pool", "executor") for method in ("fork", "spawn", "forkserver")),
    "failing-fork",
    "fork",
    "daemon",
    "subprocess",
]


@pytest.mark.parametrize("kind", CHILDREN)
def test_children(run, kind):
    """The profile of every child arrives, under its own process id and instance."""
    app = run("children.py", kind, **LONG)
    assert app.exit_code == 0
    told = app.told
    if kind.startswith(("pool", "executor")):
        spans = {answer["span_id"]: answer for answer in told}
        assert_pool(app, spans)
    else:
        assert_own_instances(assert_profiled(app.receiver, told))
    assert "otel-profiling WARNING" not in app.errors
    assert "panicked" not in app.errors


def assert_pool(app, spans):
    """Each piece of work has a span of its own in the function of its worker."""
    arrived = {}
    for sample in app.samples:
        if sample.stack and any(frame.function.startswith("busy_") for frame in sample.stack):
            answer = spans.get(sample.label("span_id"), {"pid": None})
            arrived[answer["pid"]] = arrived.get(answer["pid"], 0) + sample.count
            assert sample.series["process_pid"] == str(answer["pid"] or sample.series["process_pid"])
    assert arrived.pop(None, 0) <= 0.05 * sum(arrived.values())
    assert set(arrived) == {answer["pid"] for answer in spans.values()}
    assert len({sample.series["service_instance_id"] for sample in app.samples if sample.stack}) >= len(arrived)


@pytest.fixture
def start(receiver):
    processes = []

    def start(how):
        command = [bin_path("opentelemetry-instrument"), sys.executable, str(APPS / "ending.py"), how]
        process = subprocess.Popen(
            command,
            env=environment(receiver, **LONG),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # A background job of a shell ignores SIGINT, and so would what it starts.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # noqa: PLW1509 - takes no lock
        )
        processes.append(process)
        return process, json.loads(process.stdout.readline())

    yield start
    for process in processes:
        process.kill()
        process.communicate()


@pytest.mark.parametrize(
    ("how", "number", "code"),
    [
        ("exit", None, 0),
        ("exception", None, 1),
        ("wait", signal.SIGINT, -signal.SIGINT),
        ("handler", signal.SIGTERM, 0),
    ],
)
def test_endings(start, receiver, how, number, code):
    """An exit, an exception, Ctrl-C and a handler of SIGTERM all leave time for the last profile."""
    process, told = start(how)
    if number is not None:
        process.send_signal(number)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == code
    assert_nothing_said(errors)
    assert_profiled(receiver, [told])


def test_sigterm_without_a_handler(start):
    """The process dies of the signal at once, as it would without us: no handler of ours changes what it does."""
    process, _ = start("wait")
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == -signal.SIGTERM
    assert_nothing_said(errors)


@pytest.mark.parametrize("kind", ["process-fork", "fork", "executor-fork"])
def test_children_beside_a_server_that_hangs(run, receiver, kind):
    """Parent and child each wait 2 s at most, though the server never answers."""
    receiver.push_delay = 60.0
    app = run("children.py", kind, OTEL_PROFILING_LOG_LEVEL="info", **LONG)
    assert app.exit_code == 0
    assert app.errors.count(GAVE_UP) >= 2, "parent and child"
