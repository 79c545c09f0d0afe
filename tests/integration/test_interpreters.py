"""Other interpreters in the process run and end as they do without us, and the main one stays profiled."""

import pytest

from .conftest import assert_labelled


def test_interpreters_that_come_and_go(run):
    """Each ends with its own thread only, and the agent that it never had anything to do with goes on."""
    pytest.importorskip("_testcapi", reason="makes interpreters on every Python")
    # The exporter's thread would be one in each interpreter.
    app = run("interpreters.py", OTEL_TRACES_EXPORTER="none")
    assert (app.exit_code, app.errors) == (0, "")
    assert app.told == [0, 0, 0]
    for function in ("busy_before", "busy_after"):
        assert_labelled(app.samples_of(function), {"span_name": f"GET {function}"})
