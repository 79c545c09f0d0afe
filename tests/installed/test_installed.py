"""What was installed from wheels is the native form, and as right as an installation of a developer's.

Runs where nothing else of the repository is but the tests: see ``slim.sh`` and ``musl.sh``.
"""

import os
import sys
from pathlib import Path

import pytest

from ..integration.conftest import assert_accurate, receiver, run  # noqa: F401 - fixtures

HERE = Path(__file__).parent
HANDLERS = 8
TURN_SECONDS = os.environ.get("TURN_SECONDS", "0.0002")
"""How long a task works before it gives way. An emulated sampler is too slow for the default."""
UPSTREAMS = "Configuration of profiling not loaded, configurator already loaded\n"
"""What upstream says where it has found its own configurator first, which depends on the order of files in a folder."""


def test_form(run):  # noqa: F811 - the fixture
    """The native module was loaded, from an installed wheel; on Linux samples find their labels by aliases."""
    app = run(HERE / "form.py")
    assert app.exit_code == 0, app.errors
    assert app.errors in ("", UPSTREAMS)
    assert app.told["mode"] == ("aliases" if sys.platform == "linux" else "by thread"), app.told
    assert "site-packages" in app.told["file"]


@pytest.mark.skipif(sys.platform != "linux", reason="there labels are kept by thread")
def test_short_turns(run):  # noqa: F811 - the fixture
    """Tasks of asyncio take turns, of 0.2 ms by default: 99.5 % of all samples have the right span."""
    app = run("short_turns.py", "tasks", str(HANDLERS), TURN_SECONDS, "10")
    assert app.exit_code == 0, app.errors
    assert app.errors in ("", UPSTREAMS)
    groups = [(app.samples_of(function), labels) for function, labels in app.told.items()]
    assert len(groups) == HANDLERS
    assert assert_accurate(groups, 0.995, chance=True) > 500
