"""What `make wheels` made, and the scripts that made it."""

import os
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
DIST = REPOSITORY / "dist"
os.environ["PYTHON_HEADERS"] = f"{os.environ.get('PYTHON_HEADERS', '')}{os.pathsep}{REPOSITORY / 'build' / 'headers'}"
sys.path.insert(0, str(REPOSITORY / "release"))  # scripts, which import each other by their plain names


@pytest.fixture(scope="session")
def cache(tmp_path_factory):
    """A folder of the compiler's that had nothing in it before these tests."""
    return tmp_path_factory.mktemp("zig")


@pytest.fixture
def linked(tmp_path, cache):
    """Compile a shared library with the options given and return its bytes."""
    import compiler  # noqa: PLC0415 - found once the path above is set

    def linked(target, source, *options, name="library.so"):
        (tmp_path / "library.c").write_text(source)
        command = [sys.executable, "-m", "ziglang", "cc", "-target", target, "-shared", "-fPIC", "-O2", *options]
        compiler._run([*command, "library.c", "-o", name], tmp_path, cache)
        return (tmp_path / name).read_bytes()

    return linked
