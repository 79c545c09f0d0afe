"""Daemons close whatever is open and open files of their own: nobody else writes to those, and the daemon is profiled."""

import importlib.util
import json

import pytest

from .conftest import BY_PROCESS, assert_labelled
from .servers import wait_until

WAYS = ["range", "hand", "late", "itself", "python-daemon", "shared"]


@pytest.mark.parametrize("how", WAYS)
def test_files_of_a_daemon(run, tmp_path, how):
    """Not a byte is written to them, whichever way it closes its descriptors, and whenever; its work arrives, labelled."""
    if how == "python-daemon" and importlib.util.find_spec("daemon") is None:
        pytest.skip("python-daemon is not installed")
    answer = tmp_path / "answer"
    # The daemon's spans are not sent: it has closed the exporter's connection.
    app = run("daemons.py", how, str(answer), OTEL_TRACES_EXPORTER="none", OTEL_PROFILING_UPLOAD_INTERVAL="1s", **BY_PROCESS)
    assert (app.exit_code, app.output, app.errors) == (0, "", "")
    wait_until(lambda: answer.exists() and answer.read_text(), "the daemon's answer")
    told = json.loads(answer.read_text())
    assert told["contents"] == [""] * len(told["contents"])
    for function, labels in told["told"].items():
        samples = wait_until(lambda function=function: app.samples_of(function), f"samples of {function}")
        if how != "shared":  # there the agent comes later than the span
            assert_labelled(samples, {"span_id": labels["span_id"], "span_name": f"GET {function}"})
        assert {sample.series["process_pid"] for sample in samples} == {str(told["pid"])}


def test_many_daemons(run, pytestconfig):
    """Daemons that are made in turns, while their parent is sampled, find their files as they left them."""
    daemons = pytestconfig.getoption("--daemons")
    app = run("many_daemons.py", str(daemons), OTEL_TRACES_EXPORTER="none", timeout=60 + daemons)
    assert (app.exit_code, app.errors) == (0, "")
    assert app.told == {"untouched": daemons}
