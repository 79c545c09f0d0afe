"""Has the tests of projects that do not install them: their source distributions do."""

from __future__ import annotations

import importlib.metadata
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

from .table import Suite


def prepare(suite: Suite, build: Path) -> Path:
    """Return a new folder to run the suite in, with what it needs of its project's source distribution.

    That is of the same release as what is installed here, and is fetched once. The project's own modules are left out: they
    would be imported instead of the installed ones.

    Args:
        build: Where everything is kept.

    Raises:
        subprocess.CalledProcessError: The distribution could not be fetched.
    """
    folder = build / suite.name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    if suite.distribution:
        release = importlib.metadata.version(suite.distribution)
        top = _unpack(_fetch(suite.distribution, release, build / "sdists"), build / "sources")
        for member in suite.members:
            copy = shutil.copytree if (top / member).is_dir() else shutil.copy
            copy(top / member, folder / member)
    if not {"pyproject.toml", "setup.cfg"} & set(suite.members):
        (folder / "pytest.ini").write_text("[pytest]\n")  # or this project's own configuration would be found
    return folder


def _fetch(project: str, release: str, folder: Path) -> Path:
    pattern = f"{project.replace('-', '[-_]')}-{release}.tar.gz"
    if not (found := list(folder.glob(pattern))):
        requirement = f"{project}=={release}"
        options = ["--quiet", "--no-deps", "--no-binary", project, "--dest", str(folder)]
        subprocess.run([sys.executable, "-m", "pip", "download", *options, requirement], check=True, stdout=sys.stderr)
        found = list(folder.glob(pattern))
    return found[0]


def _unpack(archive: Path, folder: Path) -> Path:
    top = folder / archive.name.removesuffix(".tar.gz")
    if not top.exists():
        with tarfile.open(archive) as file:
            file.extractall(folder, filter="data")
    return top
