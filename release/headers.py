"""Finds the headers of each CPython on this machine, and makes them fit to compile for another platform.

The headers of CPython are the same on every platform but for one file, ``pyconfig.h``, which its configure script writes. One
from 64-bit Linux serves all platforms that we compile for. What the public headers use of it is: the sizes of C types, which
are checked for each target (`size_checks`); the names of headers that exist, of which a missing one is an error of the
compiler; and choices that belong to the build and not to the platform, such as ``Py_GIL_DISABLED``.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

_C_TYPES = {
    "SIZEOF_SHORT": "short",
    "SIZEOF_INT": "int",
    "SIZEOF_LONG": "long",
    "SIZEOF_LONG_LONG": "long long",
    "SIZEOF_VOID_P": "void *",
    "SIZEOF_SIZE_T": "size_t",
    "SIZEOF_FLOAT": "float",
    "SIZEOF_DOUBLE": "double",
    "SIZEOF_OFF_T": "off_t",
    "SIZEOF_TIME_T": "time_t",
    "SIZEOF_PID_T": "pid_t",
    "SIZEOF_PTHREAD_T": "pthread_t",
    "SIZEOF_WCHAR_T": "wchar_t",
    "SIZEOF_UINTPTR_T": "uintptr_t",
    "SIZEOF__BOOL": "_Bool",
}
"""What `pyconfig.h` says the sizes of. Not ``long double``, which differs on arm64: no header of CPython asks for it."""


class HeadersError(Exception):
    """Headers can't be used; says which and why."""


def candidates(version: str) -> Iterator[Path]:
    """Yield folders that may have the headers of a CPython, such as ``3.11``, the most wanted first.

    ``PYTHON_HEADERS`` in the environment lists folders which hold folders named ``python3.11``. Then pyenv, a Python on PATH,
    and Debian's in the folder that CI makes for a Python that the machine's own release does not have.
    """
    name = f"python{version}"
    for folder in filter(None, os.environ.get("PYTHON_HEADERS", "").split(os.pathsep)):
        yield Path(folder, name)
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    for installed in sorted(pyenv.glob(f"versions/{version}.*"), key=_patch_level, reverse=True):
        yield installed / "include" / name
    on_path = shutil.which(name)
    if on_path:
        ask = "import sysconfig; print(sysconfig.get_path('include'))"
        yield Path(subprocess.run([on_path, "-c", ask], capture_output=True, text=True, check=False).stdout.strip())
    yield Path(tempfile.gettempdir(), f"otel-profiling-python-{version}", "usr", "include", name)


def _patch_level(installed: Path) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", installed.name))


def find(version: str) -> Path | None:
    """Return the folder with the headers of a CPython; None if there is none on this machine."""
    for folder in candidates(version):
        if (folder / "Python.h").exists() and (folder / "pyconfig.h").exists():
            stated = re.search(r'^#define PY_VERSION\s+"(\d+\.\d+)', (folder / "patchlevel.h").read_text(), re.MULTILINE)
            if stated and stated[1] == version:
                return folder
    return None


def prepare(found: Path, target: Path) -> Path:
    """Copy headers to a folder that has nothing of this machine's platform, and return it.

    Raises:
        HeadersError: they are those of a debug build, of a free-threaded one, or of a 32-bit platform.
    """
    shutil.copytree(found, target)
    config = (target / "pyconfig.h").read_text()
    if not re.search(r"^#define SIZEOF_VOID_P", config, re.MULTILINE):
        # Debian's only includes the one of the platform that is compiled for, which lies in a folder named after it.
        real = next(iter(sorted(found.parent.glob(f"*-linux-gnu/{found.name}/pyconfig.h"))), None)
        if real is None:
            raise HeadersError(f"{found}: pyconfig.h includes one that is not there")
        config = real.read_text()
        (target / "pyconfig.h").write_text(config)
    for wrong, reason in (("Py_DEBUG", "a debug build"), ("Py_GIL_DISABLED", "a free-threaded build")):
        if re.search(rf"^#define {wrong}\b", config, re.MULTILINE):
            raise HeadersError(f"{found}: of {reason}")
    if "SIZEOF_VOID_P" not in sizes(config) or sizes(config)["SIZEOF_VOID_P"] != 8:  # noqa: PLR2004 - bytes of a pointer
        raise HeadersError(f"{found}: not of a 64-bit platform")
    return target


def sizes(config: str) -> dict[str, int]:
    """Return the sizes, in bytes, that the text of a ``pyconfig.h`` states."""
    return {name: int(size) for name, size in re.findall(r"^#define (SIZEOF_\w+) (\d+)$", config, re.MULTILINE)}


def size_checks(config: str) -> str:
    """Return C source that a compiler only accepts for a target where types have the sizes which ``pyconfig.h`` states."""
    stated = sizes(config)
    checks = [
        f'_Static_assert(sizeof({c_type}) == {stated[name]}, "{name}");' for name, c_type in _C_TYPES.items() if name in stated
    ]
    return "\n".join(
        [
            "#include <pthread.h>",
            "#include <stdint.h>",
            "#include <sys/types.h>",
            "#include <time.h>",
            "#include <wchar.h>",
            *checks,
            "",
        ]
    )
