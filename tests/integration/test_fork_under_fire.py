"""Forks in the middle of everything: no child hangs or crashes, each is profiled, and the parent goes on as before."""

from collections import Counter

import pytest

from .conftest import assert_accurate, assert_nothing_said


@pytest.mark.timeout(1800)
def test_forks_under_fire(run, pytestconfig):
    """Many forks in a row (``--forks``) among 32 busy threads; a child has 10 s to end."""
    forks = pytestconfig.getoption("--forks")
    app = run("under_fire.py", str(forks), timeout=1700, OTEL_PROFILING_UPLOAD_INTERVAL="5s")
    assert app.exit_code == 0
    told = app.told
    print(f"a fork took {told['median_ms']:.1f} ms, the longest {told['longest_ms']:.1f} ms")
    assert Counter(told["codes"]) == {0: forks}
    assert "panicked" not in app.errors
    assert_nothing_said(app.errors)

    arrived = {}
    for sample in app.samples:
        for name in {frame.function for frame in sample.stack if frame.function.startswith("busy_")}:
            arrived.setdefault(name, []).append(sample)
    children = {name: {**ids, "span_name": "child"} for name, ids in told["children"].items()}
    # A child works for ten sampling periods: one in 20,000 is never seen. More are only missed where their agent hangs.
    missed = set(children) - set(arrived)
    assert len(missed) <= max(1, forks // 200), missed
    assert_accurate([(arrived[name], ids) for name, ids in children.items() if name in arrived], 0.95)
    for name, ids in told["steady"].items():
        span_name = name.replace("busy_steady_", "steady ")
        assert_accurate([(arrived[name], {**ids, "span_name": span_name})], 0.95)
