"""Nothing is left behind, however many spans there were and whatever became of them."""

import pytest


@pytest.mark.timeout(1200)
def test_many_spans(run, pytestconfig):
    """After very many spans (``--spans``) the agent holds no label, and memory is where it was after the first fifth."""
    pytest.importorskip("greenlet")
    app = run(
        "many_spans.py",
        str(pytestconfig.getoption("--spans")),
        instrument=False,
        timeout=1100,
        OTEL_TRACES_EXPORTER="none",
        OTEL_PROFILING_UPLOAD_INTERVAL="5s",
    )
    assert app.exit_code == 0, app.errors
    assert "failed to" not in app.errors
    assert app.told["held"] == []
    assert app.told["written"] > pytestconfig.getoption("--spans")
    early, late = app.told["memory"][1], app.told["memory"][-1]
    assert late < early + 10e6, app.told["memory"]
