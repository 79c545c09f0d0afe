"""Nothing of ours is seen: output, warnings, descriptors and helper processes are the same with us as without."""

import signal
import sys

import pytest

from .conftest import assert_labelled


def test_last_words(run):
    """Standard output is the application's, and so is its logging, which pyroscope-io would use for a last line."""
    app = run("last_words.py")
    assert (app.exit_code, app.output, app.errors) == (0, '{"result": 1}\n', "")
    assert_labelled(app.samples_of("busy_work"), {"span_name": "work"})


@pytest.mark.parametrize("how", ["default", "always", "error"])
@pytest.mark.parametrize("exporter", ["none", "otlp"])
def test_warnings_about_forks(run, how, exporter):
    """There is none of pyroscope-io's, nor of CPython's about the agent's threads; filters are as the application set them.

    The exporter of OpenTelemetry has a thread, too, of which CPython warns without us as well.
    """
    without = run("filtering.py", how, OTEL_PROFILING_ENABLED="false", OTEL_TRACES_EXPORTER=exporter)
    app = run("filtering.py", how, OTEL_TRACES_EXPORTER=exporter)
    assert (app.exit_code, app.output) == (without.exit_code, without.output)
    assert numbers_left_out(app.errors) == numbers_left_out(without.errors)
    if app.exit_code == 0:
        assert_labelled(app.samples_of("busy_work"), {"span_name": "work"})
        assert "of the application" in app.errors


def test_warnings_about_forks_beside_a_thread(run):
    """What CPython has to say about a thread of the application's is said."""
    without = run("filtering.py", "thread", OTEL_PROFILING_ENABLED="false", OTEL_TRACES_EXPORTER="none")
    app = run("filtering.py", "thread", OTEL_TRACES_EXPORTER="none")
    assert numbers_left_out(app.errors) == numbers_left_out(without.errors)
    assert ("multi-threaded" in app.errors) is (sys.version_info >= (3, 12))


def numbers_left_out(text):
    return "".join(character for character in text if not character.isdigit())


def test_warnings_as_errors(run):
    """Python is told to make errors of all warnings: none of ours is among them."""
    without = run("lifecycle.py", "return", PYTHONWARNINGS="error", OTEL_PROFILING_ENABLED="false")
    app = run("lifecycle.py", "return", PYTHONWARNINGS="error")
    assert (app.exit_code, app.output, app.errors) == (without.exit_code, without.output, without.errors)


@pytest.mark.parametrize("level", ["info", "debug"])
def test_log_level(run, level):
    """Our lines are ours: the agent's library says nothing of its own."""
    app = run("lifecycle.py", "return", OTEL_PROFILING_LOG_LEVEL=level)
    lines = app.errors.splitlines()
    assert [line for line in lines if "profiling 'application-under-test'" in line]
    assert not [line for line in lines if "Pyroscope::" in line or "_native" in line or "py_spy" in line.lower()]


@pytest.mark.skipif(sys.platform != "linux", reason="reads what Linux says of processes")
def test_helpers_of_multiprocessing(run):
    """Its resource tracker and its fork server do nothing, so that they have no agent; what the server forks has one."""
    app = run("sharing.py", OTEL_TRACES_EXPORTER="none")
    assert app.told["exit"] == 0
    assert sorted(command.split(".")[1].split()[0] for command in app.told["helpers"]) == ["forkserver", "resource_tracker"]
    assert set(app.told["helpers"].values()) == {1}, "threads: its own"
    for function in ("busy_child", "busy_parent"):
        assert_labelled(app.samples_of(function), {"span_name": f"GET {function}"})


def test_signals(run):
    """A signal that the application blocks on all of its threads comes to it, in children too: none of ours takes it."""
    # The exporter's thread would take them.
    app = run("waiting_for_signals.py", OTEL_TRACES_EXPORTER="none")
    assert (app.exit_code, app.errors) == (0, "")
    assert app.told == sorted([0, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2])
    assert_labelled(app.samples_of("busy_work"), {"span_name": "work"})
