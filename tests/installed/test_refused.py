"""Where the kernel refuses ``process_vm_readv``, labels are kept by thread, one line says so, and the application goes on.

qemu-user is such a place: see ``arm64.sh``.
"""

import ctypes
import os
import sys
from pathlib import Path

import pytest

from ..integration.conftest import assert_accurate, receiver, run  # noqa: F401 - fixtures

HERE = Path(__file__).parent


class Iovec(ctypes.Structure):
    """A piece of memory, as `process_vm_readv` takes it."""

    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


def is_refused():
    """Whether a process may not even read itself."""
    if sys.platform != "linux":
        return False
    there, here = ctypes.create_string_buffer(b"there", 5), ctypes.create_string_buffer(5)
    target, source = (Iovec(ctypes.cast(buffer, ctypes.c_void_p).value, 5) for buffer in (here, there))
    read = ctypes.CDLL(None, use_errno=True).process_vm_readv
    return read(os.getpid(), ctypes.byref(target), 1, ctypes.byref(source), 1, 0) != 5


pytestmark = pytest.mark.skipif(not is_refused(), reason="process_vm_readv is allowed here")


def test_form(run):  # noqa: F811 - the fixture
    """The native module is there and labels by thread. The line about the start says why, and one warning."""
    app = run(HERE / "form.py", OTEL_PROFILING_LOG_LEVEL="info")
    assert app.exit_code == 0, app.errors
    assert app.told["mode"] == "by thread", app.told
    assert "samples are labelled by thread (process_vm_readv is refused here)" in app.errors
    assert app.errors.count("otel-profiling WARNING") == 1, app.errors
    assert "Traceback" not in app.errors


def test_labels_by_thread(run):  # noqa: F811 - the fixture
    """Tasks of asyncio take turns of 10 ms: the agent reads in another way, and most samples have the right span."""
    app = run("short_turns.py", "tasks", "8", "0.01", "8")
    assert app.exit_code == 0, app.errors
    assert "Traceback" not in app.errors
    groups = [(app.samples_of(function), labels) for function, labels in app.told.items()]
    assert len(groups) == 8
    assert assert_accurate(groups, 0.75, least=0.5, chance=True) > 200
