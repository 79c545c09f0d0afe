"""Which interpreter of the process this is."""

from __future__ import annotations

import subprocess
import sys

import pytest
from otel_profiling_configurator.interpreters import is_main_interpreter

ANOTHER = """
import sys
sys.path[:] = {path!r}
from otel_profiling_configurator.interpreters import is_main_interpreter
print(is_main_interpreter(), flush=True)
"""


def test_main_interpreter() -> None:
    """It is this one."""
    assert is_main_interpreter()


def test_another() -> None:
    """One that is made in the process is another."""
    pytest.importorskip("_testcapi", reason="makes interpreters on every Python")
    inner = ANOTHER.format(path=sys.path)
    code = f"import _testcapi; print(_testcapi.run_in_subinterp({inner!r}))"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=30)
    assert (shown.stdout, shown.stderr) == ("False\n0\n", "")


def test_python_without_interpreters(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing can tell, there is one."""
    for name in ("_interpreters", "_xxsubinterpreters"):
        monkeypatch.setitem(sys.modules, name, None)
    assert is_main_interpreter()
