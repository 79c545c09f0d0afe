"""Samples carry the right span wherever Python can switch between tasks, with nothing but the OpenTelemetry API in the
application."""

import math

import pytest

from .conftest import ACCURACY_SAMPLE_RATE, ACCURACY_SECONDS, APPS, assert_accurate, assert_no_frame_of_ours
from .test_labels import NOTHING

SHARE = 0.98
"""Right samples of an application. What is missing was taken while its labels changed."""
LEAST = 0.9
"""Right samples of each single handler: some 300 are too few for `SHARE`, and enough to tell one that is not followed."""


@pytest.fixture
def run_accurately(run):
    """Run an application of the folder ``runtimes`` and check every sample that it worked for."""

    def run_accurately(app, mode, *, handlers=8, **more):
        app = run(
            f"runtimes/{app}.py",
            str(ACCURACY_SECONDS),
            mode,
            PYTHONPATH=str(APPS),
            OTEL_PROFILING_SAMPLE_RATE=ACCURACY_SAMPLE_RATE,
            **more,
        )
        assert app.exit_code == 0, app.errors
        expected = app.told["expected"]
        assert len(expected) >= handlers
        groups = [(app.samples_of(f"busy_{kind}"), labels) for kind, labels in expected.items()]
        # Some samples are lost where others need the processor as well.
        enough = ACCURACY_SECONDS * float(ACCURACY_SAMPLE_RATE) * 0.7
        assert assert_accurate(groups, SHARE, LEAST, chance=True) >= enough
        assert_accurate([(app.samples_of("busy_outside"), NOTHING)], 0.99, chance=True)
        assert_no_frame_of_ours(app.samples)
        return app

    return run_accurately


@pytest.mark.parametrize("mode", ["asyncio", "deep", "debug", "uvloop.run", "uvloop.install"])
def test_event_loop(run_accurately, mode):
    """Tasks, callbacks, timers, task groups, eager tasks, generators and inherited spans, on each loop.

    Below many frames too: the deeper a stack, the longer it takes the sampler to get from it to its labels.
    """
    if mode.startswith("uvloop"):
        pytest.importorskip("uvloop")
    run_accurately("event_loop", mode)


@pytest.mark.parametrize(
    ("mode", "needs"),
    [("trio", "trio"), ("anyio-trio", "trio"), ("anyio-asyncio", "anyio"), ("anyio-asyncio+uvloop", "uvloop")],
)
def test_nursery(run_accurately, mode, needs):
    """Tasks of trio and anyio, and their worker threads, which many jobs and spans share."""
    pytest.importorskip(mode.partition("-")[0])
    pytest.importorskip(needs)
    app = run_accurately("nursery", mode)
    assert app.told["threads"] <= 6, "workers were reused"


@pytest.mark.parametrize("mode", ["instrumented", "not instrumented"])
def test_worker_threads(run_accurately, mode):
    """Jobs have the span of whoever handed them over if their context came along; a reused worker forgets the job before."""
    pytest.importorskip("asgiref")
    disabled = {} if mode == "instrumented" else {"OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "threading"}
    app = run_accurately("workers", mode, **disabled)
    assert app.told["threads"] <= 30, "workers were reused"


def test_nested_loops(run_accurately):
    """After a loop that ran inside a step, or of which a script has run a piece, labels are the caller's again."""
    pytest.importorskip("nest_asyncio")
    run_accurately("nested_loops", "")


def test_contexts(run_accurately):
    """Whatever enters a context, and however it is left."""
    run_accurately("contexts", "")


@pytest.mark.parametrize("mode", ["", "tracer"])
def test_greenlets(run_accurately, mode):
    """Each greenlet has its own span's labels; an application's own tracer still sees every switch."""
    pytest.importorskip("greenlet")
    app = run_accurately("greenlets", mode)
    if mode == "tracer":
        assert app.told["traced"] >= app.told["switches"]


@pytest.mark.parametrize(
    ("mode", "settings"),
    [
        ("after", {}),
        ("before", {"instrument": False}),
        ("upstream", {"OTEL_PYTHON_AUTO_INSTRUMENTATION_EXPERIMENTAL_GEVENT_PATCH": "patch_all"}),
    ],
)
def test_gevent(run_accurately, mode, settings):
    """Greenlets and patched threads have their own span's labels, whoever patches, before us or after us."""
    pytest.importorskip("gevent")
    run_accurately("gevents", mode, **settings)


def test_eventlet(run_accurately):
    """Green threads have their own span's labels, as greenlets do, and threads that the application patches."""
    pytest.importorskip("eventlet")
    app = run_accurately("eventlets", "")
    assert "otel-profiling WARNING" not in app.errors


def test_cpu_time_of_spans(run):
    """A span's samples add up to the CPU time that the span measures itself, within 5 %.

    The sampler waits for times that are drawn at random, so n samples have a standard deviation of sqrt(n): spans of 6 s at
    1,000 samples a second have 1.3 %, and three of those are left to chance on top of the 5 %. (At 100 a second a span of one
    second has 10 %: that is what a profile can know of it, and only sums over many such spans are better.)

    Where other processes take the processor away while the thread holds Python's lock, the sampler counts that as work: hence
    the upper bound is of the time that passed, which on a machine with nothing else to do is the CPU time.
    """
    rate = 1000
    app = run("runtimes/cpu_time.py", "12", PYTHONPATH=str(APPS), OTEL_PROFILING_SAMPLE_RATE=str(rate))
    assert app.exit_code == 0, app.errors
    for kind, labels in app.told["expected"].items():
        sampled = sum(sample.count for sample in app.samples if sample.label("span_id") == labels["span_id"]) / rate
        cpu, wall = app.told["cpu"][kind], app.told["wall"][kind]
        print(f"{kind}: sampled {sampled:.3f} s, CPU {cpu:.3f} s ({sampled / cpu - 1:+.1%}), {wall:.3f} s passed")
        chance = 3 / math.sqrt(sampled * rate)
        assert (0.95 - chance) * cpu <= sampled <= (1.05 + chance) * wall
