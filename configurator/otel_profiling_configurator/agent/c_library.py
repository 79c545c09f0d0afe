"""Whether the C library is too old for the agent's native module: asked before the import, which then would end the process.

pyroscope-io's wheels for musl bring along a libgcc_s with relative relocations (DT_RELR). musl applies those since 1.2.4, which
is Alpine 3.18's; an older one leaves the library as it is, and the process dies of SIGSEGV in the import (pyroscope-io 1.4.0).
"""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path

NEEDED = (1, 2, 4)


def too_old_musl() -> str | None:
    """Return the version of this process's musl where it can't load the agent's library; None in any other case."""
    loader = musl_loader()
    if loader is None or not brings_libgcc():
        return None
    version = musl_version(loader)
    numbers = tuple(int(number) for number in re.findall(r"\d+", version or "")[:3])
    return version if version and numbers < NEEDED else None


def musl_loader() -> str | None:
    """Return the path of musl's loader, None where this Python runs on another C library.

    It is what the kernel starts for an executable: the file's program header names it, near its beginning.
    """
    if sys.platform != "linux":
        return None
    try:
        with Path("/proc/self/exe").open("rb") as executable:
            found = re.search(rb"/[^\0]*/ld-musl-[^\0/]+\.so\.1\0", executable.read(4096))
    except OSError:  # nothing can be said, and the import may go well
        return None
    return found[0][:-1].decode() if found else None


def brings_libgcc() -> bool:
    """Return whether pyroscope-io is a wheel that brings its own libgcc_s along; one that was built here has none."""
    spec = importlib.util.find_spec("pyroscope")
    return bool(spec and spec.origin and any(Path(spec.origin).parents[1].glob("pyroscope_io.libs/libgcc_s*")))


def musl_version(loader: str) -> str | None:
    """Return what musl's loader says of its version when it is run without a program; None if it says nothing."""
    import subprocess  # noqa: PLC0415 - only on musl

    try:
        done = subprocess.run([loader], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False, timeout=5)
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = re.search(r"^Version (\S+)", done.stderr, re.MULTILINE)
    return found[1] if found else None
