"""The agent's sampler finds the interpreter, also where it has to look for it more than once.

It has to where a thread begins while it looks: musl maps memory in small pieces, and the newest thread's state may be in one
that the sampler does not know yet. Our own threads begin just then. What we give it to read must be for samples only.
"""

import os
import shutil
import subprocess
import sys

import pytest

from .conftest import APPS, assert_labelled

COMPILER = os.environ.get("CC") or shutil.which("cc")


@pytest.mark.skipif(sys.platform != "linux", reason="the sampler reads otherwise there")
@pytest.mark.skipif(not COMPILER, reason="needs a compiler of this C library's, which CC names")
def test_first_search_fails(run, tmp_path):
    """The sampler could not read something: it looks again, and samples are taken and labelled."""
    library = tmp_path / "refuse_first.so"
    subprocess.run([COMPILER, "-shared", "-fPIC", "-O1", str(APPS / "refuse_first.c"), "-o", str(library)], check=True)
    app = run("late_search.py", LD_PRELOAD=str(library))
    assert app.exit_code == 0, app.errors
    assert app.told == {"refused": 1}
    assert_labelled(app.samples_of("busy_searched"), {"span_name": "work"})
