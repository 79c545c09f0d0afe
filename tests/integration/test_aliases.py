"""Samples have the labels of the moment at which they are taken, and what others rely on stays as it is."""

import errno
import platform
import sys

import pytest

from .conftest import APPS, assert_accurate, assert_labelled, bin_path
from .test_labels import NOTHING

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="there labels are kept by thread")

COUNT = 8
MORE = 100
"""Handlers on one thread: more than there are label sets that stay at the agent."""

UNWATCHED = {"OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "threading"}
"""Threads begin without a context, as those that other libraries make."""


def groups_of(app):
    """The samples of each handler, with the labels that they should have."""
    assert app.exit_code == 0, app.errors
    return [(app.samples_of(function), labels) for function, labels in app.told.items()]


def take_turns(run, kind, count, seconds, **variables):
    """Have handlers take turns of so many seconds."""
    return groups_of(run("short_turns.py", kind, str(count), str(seconds), "5", **variables))


def samples_of_own_agent(app, function):
    """The samples of a function by an agent that the application has started."""
    return [s for s in app.receiver.samples("own-name") if any(f.function == function for f in s.stack)]


@pytest.mark.parametrize("kind", ["tasks", "greenlets", "threads"])
@pytest.mark.parametrize("count", [COUNT, MORE])
def test_short_turns(run, kind, count):
    """Also in turns of 0.1 ms, which the agent takes longer than to read a stack, samples are right."""
    if kind == "greenlets":
        pytest.importorskip("greenlet")
    groups = take_turns(run, kind, count, 0.0001)
    arrived = [(samples, labels) for samples, labels in groups if samples]
    assert len(arrived) > count / 2  # of very many, some may have had their turns between two samples
    assert assert_accurate(arrived, 0.98, chance=True) > 300


@pytest.mark.parametrize("variables", [{"OTEL_PROFILING_GIL_ONLY": "false"}, {"OTEL_PROFILING_TYPES": "wall"}])
def test_all_threads(run, variables):
    """The same where not only the thread that holds the GIL is sampled."""
    groups = take_turns(run, "tasks", COUNT, 0.0001, **variables)
    assert assert_accurate(groups, 0.98, chance=True) > 300


def test_baggage(run):
    """Labels of the baggage are those of the same moment."""
    groups = take_turns(run, "baggage", COUNT, 0.0001, OTEL_PROFILING_BAGGAGE_KEYS="tenant")
    assert assert_accurate(groups, 0.98, chance=True) > 300


def test_tags_of_the_application(run):
    """So are the tags that it adds to its thread for each turn.

    Its own functions and the agent's, in which it is told of a tag, are no part of a turn.
    """
    groups = take_turns(run, "tags", COUNT, 0.0005)
    assert assert_accurate(groups, 0.97, chance=True) > 300


@pytest.mark.parametrize(("milliseconds", "seconds"), [("0.2", "16"), ("1", "8"), ("3", "8")])
def test_short_threads(run, milliseconds, seconds):
    """A thread that ends right after its span: every sample of it has all its labels."""
    # On a busy machine the shortest are mostly over before their stack is read: one function may have no sample at all, and all
    # of them together have had one in a hundred of what is due.
    groups = [group for group in groups_of(run("short_threads.py", milliseconds, seconds)) if group[0]]
    for samples, _ in groups:
        assert {len({"trace_id", "span_id", "span_name"} & {key for key, _ in sample.labels}) for sample in samples} <= {0, 3}
    assert assert_accurate(groups, 0.98, chance=True) > 5


@pytest.mark.parametrize("aliases", ["true", "false"])
@pytest.mark.parametrize("threading", [{}, UNWATCHED], ids=["instrumented", "not instrumented"])
def test_span_attached_while_a_thread_ends(run, aliases, threading):
    """No later thread has it, whatever id and whatever address that gets, and nothing is left of each thread."""
    app = run("late_attach.py", OTEL_PROFILING_ALIASES=aliases, MALLOC_ARENA_MAX="1", **threading)
    assert app.exit_code == 0, app.errors
    share = 1.0 if aliases == "true" else 0.97  # by thread, a sample may be recorded when another thread has the id
    assert_accurate([(app.samples_of("busy_plain"), NOTHING)], share)
    assert app.told["grown"] < 5_000_000, "less than half a KiB for each of ten thousand threads"


def test_labels_of_the_application(run):
    """Labels that an application adds to its threads itself are on the samples, beside those of its spans, and no longer."""
    app = run("own_labels.py")
    assert app.exit_code == 0, app.errors
    assert "failed to" not in app.errors
    for name, job in (("before", None), ("inside", "nightly"), ("after", None), ("thread", None)):
        assert_labelled(app.samples_of(f"busy_{name}"), {**app.told[name], "span_name": name, "job": job})
    assert_labelled(app.samples_of("busy_job"), {"span_id": None, "span_name": None, "job": "nightly"})


def test_agent_of_the_application(run):
    """Its samples have aliases as ours have."""
    app = run("own_agent.py", OTEL_PROFILING_AGENT_ENABLED="false")
    assert app.exit_code == 0, app.errors
    assert_labelled(samples_of_own_agent(app, "busy_own"), {**app.told["ids"], "span_name": "own"})


def test_threads_that_are_reported(run):
    """An agent that reports its threads reports the real ones, and spans label its samples all the same."""
    app = run("reporting_agent.py", OTEL_PROFILING_AGENT_ENABLED="false")
    assert app.exit_code == 0, app.errors
    samples = samples_of_own_agent(app, "busy_reported")
    assert_labelled(samples, {"span_name": "reported", "thread_name": "a thread with a name"})
    assert {sample.label("thread_id") for sample in samples} == {str(app.told["ident"])}


def start_line(app):
    """What was said at the start, the only thing that was."""
    (line,) = [line for line in app.errors.splitlines() if "otel-profiling" in line]
    return line


def test_start_line(run):
    """Says that samples have aliases."""
    app = run("short_threads.py", "3", "1", OTEL_PROFILING_LOG_LEVEL="info")
    assert "samples are labelled by aliases" in start_line(app)


def test_by_thread(run):
    """Without them labels are kept by thread, and are right where turns are not as short; the start line says so."""
    variables = {"OTEL_PROFILING_ALIASES": "false", "OTEL_PROFILING_LOG_LEVEL": "info"}
    app = run("short_turns.py", "tasks", str(COUNT), "0.005", "5", **variables)
    assert assert_accurate(groups_of(app), 0.9, chance=True) > 300
    assert "samples are labelled by thread (" in start_line(app)


@pytest.mark.skipif(platform.machine() not in ("x86_64", "aarch64"), reason="system calls have other numbers there")
@pytest.mark.parametrize("error", [errno.EPERM, errno.ENOSYS], ids=errno.errorcode.get)
def test_memory_that_can_not_be_read(run, error):
    """The agent reads threads in another way: labels are kept by thread from the first moment; two lines say why."""
    command = [bin_path("opentelemetry-instrument"), sys.executable, str(APPS / "short_turns.py")]
    arguments = ["tasks", str(COUNT), "0.02", "3"]
    app = run("no_process_vm_readv.py", str(error), *command, *arguments, instrument=False, OTEL_PROFILING_LOG_LEVEL="info")
    if app.exit_code == 77:
        pytest.skip("no filter of system calls can be installed here")
    assert assert_accurate(groups_of(app), 0.95, chance=True) > 150
    start, warning = app.errors.splitlines()
    assert "samples are labelled by thread (process_vm_readv is refused here)" in start
    assert "otel-profiling WARNING: " in warning
    assert "this system refuses process_vm_readv" in warning


@pytest.mark.parametrize("seconds", ["0.0005", "0.004"])
def test_functions_where_others_were(run, seconds):
    """A sample names the function that ran: nothing of it was read for an earlier sample, when another one was in its place."""
    app = run("made_functions.py", "10", seconds)
    assert app.exit_code == 0, app.errors
    inside = [sample for sample in app.samples if sample.stack and sample.stack[0].function.startswith("made_")]
    samples = [(sample, sample.stack[0]) for sample in inside]
    total = sum(sample.count for sample, _ in samples)
    right = sum(
        sample.count
        for sample, frame in samples
        if frame.function == sample.label("span_name") and frame.filename == f"{frame.function}.py"
    )
    assert total > 500
    assert right >= 0.995 * total, f"{right} of {total}"
