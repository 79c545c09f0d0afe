"""The application is never harmed: its exit code, output and exceptions are what they are without us."""

import socket

import pytest

from .conftest import GAVE_UP, assert_labelled

ENDINGS = {"return": 0, "exit": 3, "message": 1, "exception": 1, "in-span": 1, "os-exit": 4}


@pytest.mark.parametrize(("ending", "exit_code"), ENDINGS.items())
def test_endings(run, ending, exit_code):
    """Exit code, standard output and standard error are the same with and without profiling."""
    without = run("lifecycle.py", ending, OTEL_PROFILING_ENABLED="false")
    assert without.receiver.pushes() == []
    profiled = run("lifecycle.py", ending)
    assert profiled.exit_code == without.exit_code == exit_code
    assert profiled.output == without.output
    assert profiled.errors == without.errors
    if ending != "os-exit":
        assert_labelled(profiled.samples_of("busy_work"), {"span_name": "work"})


@pytest.mark.parametrize("status", [401, 413, 429, 500])
def test_server_that_refuses(run, receiver, status):
    """A server that answers with an error costs the application nothing but the profile."""
    without = run("lifecycle.py", "exit", OTEL_PROFILING_ENABLED="false")
    receiver.push_status = status
    profiled = run("lifecycle.py", "exit")
    assert (profiled.exit_code, profiled.output, profiled.errors) == (3, without.output, without.errors)
    assert profiled.spans, "traces go on"


@pytest.mark.parametrize("address", ["http://127.0.0.1:{closed}", "http://does-not-exist.invalid:4040"])
def test_server_that_is_not_there(run, address):
    """A server that is down, or a name that does not resolve, costs the application nothing but the profile."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # bound and not listening: connections are refused, and nobody else takes it
        without = run("lifecycle.py", "exception", OTEL_PROFILING_ENABLED="false")
        address = address.format(closed=unused.getsockname()[1])
        profiled = run("lifecycle.py", "exception", OTEL_PROFILING_SERVER_ADDRESS=address)
    assert (profiled.exit_code, profiled.output, profiled.errors) == (1, without.output, without.errors)
    assert profiled.spans, "traces go on"


def test_server_that_hangs(run, receiver):
    """A server that accepts and never answers delays the exit by two seconds, and changes nothing else."""
    without = run("lifecycle.py", "exit", OTEL_PROFILING_ENABLED="false")
    receiver.push_delay = 60.0
    profiled = run("lifecycle.py", "exit")
    assert (profiled.exit_code, profiled.output, profiled.errors) == (3, without.output, without.errors)
    assert GAVE_UP in run("lifecycle.py", "exit", OTEL_PROFILING_LOG_LEVEL="info").errors


@pytest.mark.parametrize(
    "error", ["ImportError('no wheel for this interpreter')", "OSError('wrong libc')", "SystemError('boom')"]
)
def test_pyroscope_that_cannot_be_loaded(run, tmp_path, error):
    """A missing or unloadable agent costs one warning with a remedy; traces go on."""
    (tmp_path / "pyroscope.py").write_text(f"raise {error}\n")
    app = run("lifecycle.py", "return", PYTHONPATH=str(tmp_path))
    assert app.exit_code == 0
    assert app.errors.count("otel-profiling WARNING") == 1
    assert "pyroscope-io can't be loaded" in app.errors
    assert "OTEL_PROFILING_ENABLED=false" in app.errors
    assert [span.name for span in app.spans] == ["work"]
    assert "pyroscope.profile.id" not in app.spans[0].attributes


def test_sdk_switched_off(run):
    """``OTEL_SDK_DISABLED=true`` switches profiling off too."""
    app = run("lifecycle.py", "return", OTEL_SDK_DISABLED="true")
    assert (app.exit_code, app.samples, app.spans) == (0, [], [])


def test_values_that_make_no_sense(run):
    """Each bad value costs one warning that names variable, value and what is used instead; the profile still arrives."""
    bad = {
        "OTEL_PROFILING_SPAN_ID_SCOPE": "everything",
        "OTEL_PROFILING_SAMPLE_RATE": "often",
        "OTEL_PROFILING_UPLOAD_INTERVAL": "-3",
        "OTEL_PROFILING_TYPES": "cpu,gpu",
        "OTEL_PROFILING_LABELS": "team=checkout,nonsense",
        "OTEL_PROFILING_GIL_ONLY": "maybe",
    }
    app = run("lifecycle.py", "return", **bad)
    assert app.exit_code == 0
    assert app.errors.count("otel-profiling WARNING") == len(bad)
    for variable in bad:
        assert app.errors.count(variable) == 1
    assert_labelled(app.samples_of("busy_work"), {"span_name": "work"})
    assert {sample.series["team"] for sample in app.samples} == {"checkout"}
