"""Checks what is about to be published: each wheel is what its name says, and pip takes the native one wherever there is one.

Run by ``make wheels`` after it has built; alone::

    python release/check.py dist
"""

from __future__ import annotations

import argparse
import email.parser
import hashlib
import re
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import binaries
from compiler import BUILD_HOOK, CONFIGURATOR, REPOSITORY
from platforms import PLATFORMS, PYTHONS, Platform

DISTRO, OURS = "otel_profiling_distro", "otel_profiling_configurator"
PAGE = f"{DISTRO}/page/static/index.html"


def main() -> int:
    """Check a folder; print what is wrong, or a line and a hash for each file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--all", action="store_true", help="a wheel for each Python and platform must be there")
    arguments = parser.parse_args()
    found = list(problems(arguments.folder))
    found += [f"no wheel {tag}" for tag in missing(arguments.folder)] if arguments.all else []
    if found:
        print("\n".join(["Not to be published:", *(f"  {problem}" for problem in found)]), file=sys.stderr)
        return 1
    for file in sorted(arguments.folder.iterdir()):
        print(f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.stat().st_size // 1024:5} KiB  {file.name}")
    return 0


def problems(folder: Path) -> Iterator[str]:
    """Say what is wrong with the distributions in a folder."""
    files = sorted(folder.iterdir())
    for file in files:
        of_file = wheel_problems(file) if file.suffix == ".whl" else sdist_problems(file)
        yield from (f"{file.name}: {problem}" for problem in of_file)
    for name in (DISTRO, OURS):
        for pattern in (f"{name}-*.tar.gz", f"{name}-*-py3-none-any.whl"):
            if len(list(folder.glob(pattern))) != 1:
                yield f"not exactly one {pattern}"
    check = [sys.executable, "-m", "twine", "check", "--strict", *map(str, files)]
    twine = subprocess.run(check, capture_output=True, text=True, check=False)
    if twine.returncode != 0:
        yield f"twine check: {twine.stdout}{twine.stderr}"
    for python in PYTHONS:
        for platform in PLATFORMS:
            yield from choice_problems(folder, python, platform)


def missing(folder: Path) -> Iterator[str]:
    """Yield the tags of wheels that are not there."""
    for python in PYTHONS:
        for platform in PLATFORMS:
            if not list(folder.glob(f"{OURS}-*-{platform.wheel_tag(python)}.whl")):
                yield platform.wheel_tag(python)


def wheel_problems(wheel: Path) -> Iterator[str]:
    """Say what is wrong with a wheel."""
    name, version, tag = wheel.stem.split("-", 2)
    natives = {platform.wheel_tag(python): (platform, python) for platform in PLATFORMS for python in PYTHONS}
    with zipfile.ZipFile(wheel) as archive:
        content = {member: archive.read(member) for member in archive.namelist()}
    metadata = email.parser.Parser().parsestr(content[f"{name}-{version}.dist-info/WHEEL"].decode())
    interpreters, abi, systems = tag.split("-")
    if set(metadata.get_all("Tag", [])) != {f"{interpreters}-{abi}-{system}" for system in systems.split(".")}:
        yield f"its metadata says {metadata.get_all('Tag')}"
    for member in content:
        if member.endswith((".c", ".h", ".o", ".pyc")):
            yield f"{member} is of no use there"
    if name == DISTRO and PAGE not in content:
        yield f"{PAGE} is missing: the page needs Node.js"
    expected = set()
    if tag in natives and name == OURS:
        platform, python = natives[tag]
        expected = {f"{BUILD_HOOK.MODULE}{platform.suffix(python)}"}
        if metadata["Root-Is-Purelib"] != "false":
            yield "is a pure one by its metadata"
    elif tag != "py3-none-any":
        yield "a tag of no platform that is built for"
    extensions = {member for member in content if re.search(r"\.(so|dylib|pyd)\b", member)}
    if extensions != expected:
        yield f"has native modules {sorted(extensions)}, wanted {sorted(expected)}"
    for member in sorted(extensions & expected):
        platform, _ = natives[tag]
        found = list(binaries.problems(content[member], platform))
        found += binaries.thread_context_problems(content[member]) if platform.sys_platform == "linux" else []
        yield from (f"{member} {problem}" for problem in found)
        for place in {str(REPOSITORY), tempfile.gettempdir() + "/", str(Path.home()) + "/"}:
            if place.encode() in content[member]:
                yield f"{member} names {place}, where it was built"


def sdist_problems(sdist: Path) -> Iterator[str]:
    """Say what is wrong with a source distribution."""
    if not sdist.name.endswith(".tar.gz"):
        yield "neither a wheel nor a source distribution"
        return
    root = sdist.name.removesuffix(".tar.gz")
    with tarfile.open(sdist) as archive:
        names = set(archive.getnames())
    needed = ["pyproject.toml", "README.md", "LICENSE", "PKG-INFO"]
    if sdist.name.startswith(OURS):
        needed += ["hatch_build.py", *_sources()]
    else:
        needed += ["Makefile", "tests/conftest.py", "configurator/pyproject.toml", "docs/demo.svg", "SECURITY.md", PAGE]
    for name in needed:
        if f"{root}/{name}" not in names:
            yield f"{name} is missing"
    for name in sorted(names):
        if name.endswith((".so", ".pyc", ".o")) or re.search(r"/(\.venv[^/]*|build|dist|\.ci)/", name):
            yield f"{name} is not a source"


def _sources() -> list[str]:
    return [str(file.relative_to(CONFIGURATOR)) for file in sorted((CONFIGURATOR / OURS).rglob("*.[ch]"))]


def choice_problems(folder: Path, python: str, platform: Platform) -> Iterator[str]:
    """Say so if pip, on that platform, would not take the native wheel that is there, or none at all."""
    wanted = [file.name for file in folder.glob(f"{OURS}-*-{platform.wheel_tag(python)}.whl")]
    wanted = wanted or [file.name for file in folder.glob(f"{OURS}-*-py3-none-any.whl")]
    with tempfile.TemporaryDirectory() as scratch:
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps", "--no-index"]
        source = [f"--find-links={folder}", "--only-binary=:all:", "--implementation=cp", f"--python-version={python}"]
        system = [f"--platform={platform.tags[0]}", f"--dest={scratch}", "otel-profiling-configurator"]
        done = subprocess.run([*pip, *source, *system], capture_output=True, text=True, check=False)
        taken = [file.name for file in Path(scratch).iterdir()]
    if taken != wanted:
        yield f"pip on {platform.name} with Python {python} takes {taken or done.stderr.strip()}, wanted {wanted}"


if __name__ == "__main__":
    sys.exit(main())
