"""CPU time is CPU time: what is sampled of a span adds up to what the kernel says its thread has used."""

import os
import platform
import shutil
import subprocess
import sys

import pytest

from .conftest import APPS

COMPILER = os.environ.get("CC") or shutil.which("cc")

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or sys.version_info < (3, 11), reason="threads are chosen by their CPU clocks there only"
)


@pytest.fixture
def contended():
    """Has applications run on one processor, which another process always wants."""
    processors = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(processors)})
    try:
        with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as loop:
            yield
            loop.kill()
    finally:
        os.sched_setaffinity(0, processors)


def assert_samples_are_cpu_time(app, share=0.1, rate=100):
    """Each span's samples add up to its thread's clock within `share`, and none of them has another span's label."""
    assert app.exit_code == 0
    assert app.told
    shown = {}
    for name, seconds in app.told.items():
        samples = app.samples_of(name)
        assert {sample.label("span_name") for sample in samples} <= {name}, name
        shown[name] = (sum(sample.count for sample in samples) / rate, seconds)
    print(shown)  # shown by pytest if the test fails
    for name, (sampled, used) in shown.items():
        # What it is due at its end is never paid: a period, and a few more where it is seldom seen at work.
        assert used * (1 - share) - 0.05 <= sampled <= used * (1 + share) + 0.05, (name, shown)


@pytest.mark.parametrize("kinds", [("python",), ("sha256",), ("sha256", "sha256"), ("python", "python", "sha256")])
def test_threads_that_work(run, kinds):
    """Python code and native code without the GIL are shown with their CPU time, alone and beside each other."""
    assert_samples_are_cpu_time(run("cpu_time.py", "2", "0", *kinds))


@pytest.mark.usefixtures("contended")
@pytest.mark.parametrize("kinds", [("python",), ("sha256",), ("python", "sha256")])
def test_processor_that_others_use(run, kinds):
    """Waiting for a processor is no CPU time."""
    assert_samples_are_cpu_time(run("cpu_time.py", "2", "0", *kinds))


def test_many_threads_that_wait(run):
    """Threads that do nothing have no samples, and the others theirs."""
    app = run("cpu_time.py", "2", "300", "python", "sha256")
    assert_samples_are_cpu_time(app)
    waiting = app.samples_of("Event.wait")
    assert sum(sample.count for sample in waiting) <= 10  # their start is work, too


@pytest.mark.skipif(
    not os.access("/proc/self/syscall", os.R_OK) or platform.machine() not in ("x86_64", "aarch64"),
    reason="the system does not tell what a thread waits in",
)
def test_where_the_agents_threads_wait(run):
    """Not in the table where a thousand idle threads of the process stand in a few queues, which is searched at each sample."""
    app = run("waiting_threads.py")
    assert app.exit_code == 0, app.errors
    if not app.told["has_table"]:
        pytest.skip("this kernel keeps the sleepers of all processes in one table")
    assert len(app.told["python"]) >= 20
    assert all(app.told["python"]), "the application's wait as ever"
    assert app.told["others"].count(False) >= 2, "the agent's recorder, and what uploads"


def test_work_after_nothing_was_to_do(run):
    """A sampler that has slept through seconds of nothing is there when work begins: each span of 20 ms has its samples."""
    app = run("after_idle.py")
    assert_samples_are_cpu_time(app)
    sampled = {sample.label("span_id") for sample in app.samples_of("busy_moments")}
    assert len(sampled) >= 0.9 * sum(span.name == "busy_moments" for span in app.spans)


@pytest.mark.usefixtures("contended")
def test_requests_that_work_and_wait(run):
    """Four threads that work for 2 ms and wait for 10: their samples add up to their clocks, and are of the work."""
    app = run("cpu_time.py", "1", "0", *["request"] * 4)
    assert_samples_are_cpu_time(app, share=0.2)
    samples = [sample for name in app.told for sample in app.samples_of(name)]
    waiting = sum(sample.count for sample in samples if any(frame.function == "wait" for frame in sample.stack))
    # It was a quarter when runnable threads counted as working; the CPU time there is 2 %.
    assert waiting <= 0.2 * sum(sample.count for sample in samples)


@pytest.mark.skipif(not COMPILER, reason="needs a compiler of this C library's, which CC names")
def test_native_thread_that_calls_many_times(run, tmp_path):
    """Python has another state for it in each call: its CPU time is shown once, not anew with each of them."""
    library = tmp_path / "native_calls.so"
    source = str(APPS / "native_calls.c")
    subprocess.run([COMPILER, "-shared", "-fPIC", "-pthread", source, "-o", str(library)], check=True)
    app = run("native_calls.py", str(library))
    assert app.exit_code == 0
    samples = app.samples_of("busy_called")
    assert {sample.label("span_name") for sample in samples} == {"called"}
    used = app.told["cpu_seconds"]
    assert 0.9 * used - 0.05 <= sum(sample.count for sample in samples) / 100 <= 1.1 * used + 0.05


@pytest.mark.usefixtures("contended")
def test_threads_that_begin_while_samples_are_taken(run):
    """Each has its own: until a thread has begun, its state names the thread that creates it, whose clock is not its own."""
    app = run("cpu_time.py", "0.2", "0", *["sha256"] * 24, OTEL_PROFILING_SAMPLE_RATE="1000")
    assert len(app.told) == 24
    assert_samples_are_cpu_time(app, share=0.2, rate=1000)
