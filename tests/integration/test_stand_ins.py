"""Samples have the labels of the moment at which they are taken, and what others rely on stays as it is."""

import sys

import pytest

from .conftest import assert_accurate, assert_labelled

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="there labels are kept by thread")

COUNT = 8
MORE = 40
"""Handlers on one thread: more than it has stand-ins for."""


def take_turns(run, kind, count, seconds, **variables):
    """Have handlers take turns of so many seconds; return the samples of each, with the label that they should have."""
    app = run("short_turns.py", kind, str(count), str(seconds), "5", **variables)
    assert app.exit_code == 0, app.errors
    return [(app.samples_of(function), {"span_name": name}) for function, name in app.told.items()]


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
    assert len(arrived) > count / 2  # of forty, one may have had its eighth of a second between two samples
    assert assert_accurate(arrived, 0.98, chance=True) > 300


@pytest.mark.parametrize("variables", [{"OTEL_PROFILING_GIL_ONLY": "false"}, {"OTEL_PROFILING_TYPES": "wall"}])
def test_all_threads(run, variables):
    """The same where not only the thread that holds the GIL is sampled."""
    groups = take_turns(run, "tasks", COUNT, 0.0001, **variables)
    assert assert_accurate(groups, 0.98, chance=True) > 300


def test_labels_of_the_application(run):
    """Labels that an application adds to its threads itself are on the samples, beside those of its spans, and no longer."""
    app = run("own_labels.py")
    assert app.exit_code == 0, app.errors
    assert "failed to" not in app.errors
    for name, job in (("before", None), ("inside", "nightly"), ("after", None), ("thread", None)):
        assert_labelled(app.samples_of(f"busy_{name}"), {**app.told[name], "span_name": name, "job": job})
    assert_labelled(app.samples_of("busy_job"), {"span_id": None, "span_name": None, "job": "nightly"})


def test_threads_that_are_reported(run):
    """An agent that reports its threads reports the real ones, and spans label its samples all the same."""
    app = run("reporting_agent.py", OTEL_PROFILING_AGENT_ENABLED="false")
    assert app.exit_code == 0, app.errors
    samples = samples_of_own_agent(app, "busy_reported")
    assert_labelled(samples, {"span_name": "reported", "thread_name": "a thread with a name"})
    assert {sample.label("thread_id") for sample in samples} == {str(app.told["ident"])}


def test_agent_that_samples_otherwise(run, tmp_path):
    """If no sample comes by where it would get its labels, they are given to the threads instead."""
    app = run("other_library.py", str(tmp_path), OTEL_PROFILING_AGENT_ENABLED="false", OTEL_PROFILING_LOG_LEVEL="info")
    assert app.exit_code == 0, app.errors
    assert "kept by thread from now on" in app.errors
    samples = samples_of_own_agent(app, "busy_noticed")
    assert_labelled(samples, {"span_name": "noticed"})


@pytest.mark.parametrize("variables", [{"OTEL_PROFILING_STAND_INS": "false"}, {"OTEL_PROFILING_BAGGAGE_KEYS": "tenant"}])
def test_by_thread(run, variables):
    """Without them labels are kept by thread, and are right where turns are not as short."""
    groups = take_turns(run, "tasks", COUNT, 0.005, **variables)
    assert assert_accurate(groups, 0.98, chance=True) > 300
