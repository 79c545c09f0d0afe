"""Headers of CPython: those that are found are the right ones, and those that would compile something wrong are refused."""

import sys

import compiler
import headers
import pytest
from platforms import PYTHONS

CONFIG = "#define SIZEOF_VOID_P 8\n#define SIZEOF_LONG 8\n"


@pytest.fixture
def python_headers(tmp_path, monkeypatch):
    """Make a folder with headers, which is looked at before all others."""

    def python_headers(version, config=CONFIG, stated=None):
        folder = tmp_path / f"python{version}"
        folder.mkdir()
        (folder / "Python.h").touch()
        (folder / "patchlevel.h").write_text(f'#define PY_VERSION "{stated or version}.1"\n')
        (folder / "pyconfig.h").write_text(config)
        monkeypatch.setenv("PYTHON_HEADERS", str(tmp_path))
        return folder

    return python_headers


def test_folder_of_the_environment(python_headers):
    """PYTHON_HEADERS comes first."""
    folder = python_headers("3.11")
    assert headers.find("3.11") == folder


def test_headers_of_another_version(python_headers):
    """A folder's name is not believed."""
    folder = python_headers("3.11", stated="3.9")
    assert headers.find("3.11") != folder


def test_no_headers(monkeypatch, tmp_path):
    """A Python that is nowhere on this machine."""
    monkeypatch.setenv("PYTHON_HEADERS", str(tmp_path))
    assert headers.find("3.99") is None


def test_debians_headers(python_headers, tmp_path):
    """Debian's `pyconfig.h` includes that of the processor; a copy has it in its place."""
    folder = python_headers("3.14", "# include <x86_64-linux-gnu/python3.14/pyconfig.h>\n")
    with pytest.raises(headers.HeadersError, match="includes one that is not there"):
        headers.prepare(folder, tmp_path / "first")
    real = tmp_path / "x86_64-linux-gnu" / "python3.14"
    real.mkdir(parents=True)
    (real / "pyconfig.h").write_text(CONFIG)
    assert (headers.prepare(folder, tmp_path / "second") / "pyconfig.h").read_text() == CONFIG


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (CONFIG + "#define Py_DEBUG 1\n", "a debug build"),
        (CONFIG + "#define Py_GIL_DISABLED 1\n", "a free-threaded build"),
        ("#define SIZEOF_VOID_P 4\n", "not of a 64-bit platform"),
    ],
)
def test_headers_of_another_kind(python_headers, tmp_path, config, reason):
    """What is compiled with them would not fit the Python that the wheel is for."""
    with pytest.raises(headers.HeadersError, match=reason):
        headers.prepare(python_headers("3.13", config), tmp_path / "copy")


@pytest.mark.parametrize("version", PYTHONS)
def test_sizes_of_types(version, tmp_path, cache):
    """A target where types have other sizes than the headers say is refused by the compiler."""
    found = headers.find(version)
    if found is None:
        pytest.skip(f"no headers of Python {version} here")
    config = (headers.prepare(found, tmp_path / "headers") / "pyconfig.h").read_text()
    (tmp_path / "sizes.c").write_text(headers.size_checks(config))
    command = [sys.executable, "-m", "ziglang", "cc", "-c", "sizes.c", "-o", "sizes.o", "-target"]
    compiler._run([*command, "x86_64-linux-musl"], tmp_path, cache)
    with pytest.raises(compiler.CompilerError, match="SIZEOF_LONG"):
        compiler._run([*command, "x86-linux-musl"], tmp_path, cache)
