"""Builds the folder that the OpenTelemetry operator copies into pods: one for every CPython we support, without Docker.

Native modules of different CPythons have different file names, so the wheels of all of them are unpacked side by side into
one tree. That is wrong wherever two wheels put different content under one name, so each such case is an error. What was
built is then verified (`verify`) and described by one hash: the same requirements give the same hash on any machine.

An image is for one processor, so there is a tree for each C library and processor. This repository's own wheels are those that
``make wheels`` makes. Only the standard library and pip are needed::

    python docker/build_tree.py --output build/image --wheels dist --arch amd64

makes ``build/image/autoinstrumentation`` (glibc) and ``build/image/autoinstrumentation-musl``, as the operator expects them.
"""

from __future__ import annotations

import argparse
import email.parser
import hashlib
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parent
REQUIREMENTS = HERE / "requirements.txt"

PYTHONS = ("3.10", "3.11", "3.12", "3.13", "3.14")
FOLDERS = {"glibc": "autoinstrumentation", "musl": "autoinstrumentation-musl"}
"""Where the operator looks in the image, by C library."""
MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}
"""What Docker calls a processor, and what wheels call it."""
PLATFORMS = {
    "glibc": ("manylinux_2_28", "manylinux_2_17", "manylinux2014", "manylinux_2_12", "manylinux2010"),
    "musl": ("musllinux_1_2", "musllinux_1_1"),
}
"""Wheels we take: glibc 2.28 is Debian 10 and RHEL 8. Those for musl 1.2 promise Alpine 3.13; but pyroscope-io's brings along a
libgcc_s with relocations (DT_RELR) that musl applies since 1.2.4, so that profiles need Alpine 3.18."""

_OWN_PLATFORMS = {"glibc": "manylinux_2_17", "musl": "musllinux_1_2"}
"""What the names of our own wheels begin with, by C library."""

MAX_BYTES = 120_000_000
"""The operator copies a tree into a volume of 200 MiB, and each pod of a node has its own copy."""

AUTO_INSTRUMENTATION = "opentelemetry/instrumentation/auto_instrumentation"

OMITTED = {
    "googleapis-common-protos": "only errors of gRPC are made of them",
    "opentelemetry-exporter-otlp": "would bring gRPC; its HTTP half is there",
    "rich": "only for the command line, which is left out",
}
"""Dependencies that are left out on purpose, and why that is right."""

_LEFT_OUT_FOLDERS = {"tests", "__pycache__", "sboms"}
_LEFT_OUT_SUFFIXES = {".pyi", ".pyc", ".c", ".h", ".pxd", ".pyx"}
_LEFT_OUT_METADATA = {"RECORD", "WHEEL", "INSTALLER", "REQUESTED", "direct_url.json"}
"""They list a wheel's files or tags, which differ between the wheels that are merged."""
_LEFT_OUT_MODULES = tuple(
    f"otel_profiling_distro/{name}/" for name in ("commands", "demo", "doctor", "page", "receiver", "report")
)
"""Tools for people at a terminal."""

_NATIVE = re.compile(r"(?P<module>.+?)\.(?P<tag>abi3|cpython-(?P<version>\d+)-[^.]+)\.so")
_MUST_BE_NATIVE = ("otel_profiling_configurator/native/_native", "pyroscope/_native", "wrapt/_wrappers")
"""The rest has a Python form to fall back to. Ours without it labels by thread; the second has no other form; the third's other
form would cost each instrumented call."""
_ELF_MACHINES = {"amd64": 62, "arm64": 183}
_C_LIBRARIES = {"glibc": rb"libc\.so\.6\0", "musl": rb"libc\.(musl-\w+\.)?so(\.1)?\0"}


class TreeError(Exception):
    """The tree would be wrong; says everything that is."""


def main() -> int:
    """Build and verify the trees that the command line asks for; print a line about each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--output", type=Path, required=True, help="folder to put the trees into")
    parser.add_argument("--wheels", type=Path, required=True, help="folder with this repository's wheels, for each Python")
    parser.add_argument("--arch", choices=MACHINES, default="amd64", help="processor, as Docker's TARGETARCH says it")
    parser.add_argument("--libc", choices=FOLDERS, action="append", help="C library (default: each)")
    arguments = parser.parse_args()
    try:
        for libc in arguments.libc or FOLDERS:
            tree = arguments.output / FOLDERS[libc]
            build(tree, libc, arguments.arch, own_wheels(arguments.wheels, libc, arguments.arch))
            verify(tree, libc, arguments.arch)
            files, size = measure(tree)
            print(f"{tree}: {libc} {arguments.arch}, {files} files, {size / 1e6:.1f} MB, sha256:{tree_hash(tree)}")
    except TreeError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def own_wheels(folder: Path, libc: str, arch: str) -> list[Path]:
    """Return this repository's wheels for a C library and processor: the distro's, and the configurator's for each CPython.

    Args:
        folder: What ``make wheels`` has made.

    Raises:
        TreeError: one is missing, or there are two.
    """
    patterns = ["otel_profiling_distro-*-py3-none-any.whl"]
    for version in PYTHONS:
        tag = "cp" + version.replace(".", "")
        patterns.append(f"otel_profiling_configurator-*-{tag}-{tag}-{_OWN_PLATFORMS[libc]}_{MACHINES[arch]}*.whl")
    found = {pattern: sorted(folder.glob(pattern)) for pattern in patterns}
    wrong = [f"  {len(wheels)} of {pattern}" for pattern, wheels in found.items() if len(wheels) != 1]
    if wrong:
        raise TreeError("\n".join([f"{folder} must have one each, of all that `make wheels` makes, and has:", *wrong]))
    return [wheel for wheels in found.values() for wheel in wheels]


def build(tree: Path, libc: str, arch: str, own: list[Path]) -> None:
    """Make `tree` anew from the pinned requirements and our own wheels.

    Raises:
        TreeError: two wheels have different files of the same name.
    """
    if tree.exists():
        shutil.rmtree(tree)
    with tempfile.TemporaryDirectory() as scratch:
        wheels = Path(scratch)
        wanted = requirements()
        for version in PYTHONS:
            _download(wheels, wanted, version, libc, arch)
            # What is pure Python for the oldest is for all.
            pure = {_normalised(wheel.name.split("-")[0]) for wheel in wheels.glob("*-none-any.whl")}
            wanted = {name: pinned for name, pinned in wanted.items() if name not in pure}
        _merge([*sorted(wheels.glob("*.whl")), *own], tree)
    # Ours in its place: it looks at the interpreter before anything is imported, and then does what upstream's does.
    shutil.copyfile(HERE / "sitecustomize.py", tree / AUTO_INSTRUMENTATION / "sitecustomize.py")
    for path in (tree, *tree.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)  # containers run as any user


def requirements() -> dict[str, str]:
    """Return the pinned distributions, and their versions."""
    lines = REQUIREMENTS.read_text(encoding="utf-8").splitlines()
    pinned = (line.split("==") for line in lines if line and not line.startswith("#"))
    return {_normalised(name): version for name, version in pinned}


def _download(folder: Path, wanted: dict[str, str], version: str, libc: str, arch: str) -> None:
    platforms = [f"--platform={platform}_{MACHINES[arch]}" for platform in PLATFORMS[libc]]
    _pip(
        *("download", "--no-deps", "--only-binary=:all:", "--implementation=cp", f"--python-version={version}"),
        *platforms,
        *("--dest", str(folder)),
        *(f"{name}=={pinned}" for name, pinned in wanted.items()),
    )


def _pip(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments], check=True)


def _merge(wheels: list[Path], tree: Path) -> None:
    origin: dict[PurePosixPath, str] = {}
    differing = []
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as archive:
            for member in archive.infolist():
                path = _place(member.filename)
                if member.is_dir() or path is None:
                    continue
                content = archive.read(member)
                if path.match("*.dist-info/METADATA"):
                    content = content.split(b"\n\n", 1)[0] + b"\n"  # without the README, which nobody reads there
                target = tree / path
                if path not in origin:
                    target.parent.mkdir(parents=True, exist_ok=True)
                    target.write_bytes(content)
                    origin[path] = wheel.name
                elif target.read_bytes() != content:
                    differing.append(f"  {path}: {origin[path]} and {wheel.name}")
    if differing:
        raise TreeError("\n".join(["Files of one name that are not the same, so that one tree can't have both:", *differing]))


def _place(name: str) -> PurePosixPath | None:
    """Return where a wheel's member belongs in the tree, None if it is left out."""
    path = PurePosixPath(name)
    if path.parts[0].endswith(".data"):
        if path.parts[1] not in ("purelib", "platlib"):
            return None
        path = PurePosixPath(*path.parts[2:])
    metadata = path.parts[0].endswith(".dist-info")
    if (metadata and path.name in _LEFT_OUT_METADATA) or (not metadata and path.suffix in _LEFT_OUT_SUFFIXES):
        return None
    if _LEFT_OUT_FOLDERS & set(path.parts[:-1]) or str(path).startswith(_LEFT_OUT_MODULES):
        return None
    return path


def verify(tree: Path, libc: str, arch: str) -> None:
    """Check that `tree` has what it must have, for each CPython.

    Raises:
        TreeError: it has not.
    """
    problems = [*_distribution_problems(tree), *_native_problems(tree, libc, arch)]
    _, size = measure(tree)
    if size > MAX_BYTES:
        problems.append(f"{size / 1e6:.1f} MB, which is more than {MAX_BYTES / 1e6:.0f}")
    if (tree / AUTO_INSTRUMENTATION / "sitecustomize.py").read_bytes() != (HERE / "sitecustomize.py").read_bytes():
        problems.append(f"{AUTO_INSTRUMENTATION}/sitecustomize.py is not ours")
    if problems:
        raise TreeError("\n".join([f"{tree} is wrong:", *(f"  {problem}" for problem in problems)]))


def _distribution_problems(tree: Path) -> Iterator[str]:
    """Say which distributions are missing, doubled, not asked for, or depend on something that is not there."""
    wanted = requirements()
    found = defaultdict(list)
    needs = {}
    for file in sorted(tree.glob("*.dist-info/METADATA")):
        metadata = email.parser.Parser().parsestr(file.read_text(encoding="utf-8"))
        name = _normalised(metadata["Name"])
        found[name].append(metadata["Version"])
        needs[name] = metadata.get_all("Requires-Dist") or []
    ours = {"otel-profiling-distro", "otel-profiling-configurator"}
    for name in sorted(wanted.keys() | ours | found.keys()):
        if name not in found:
            yield f"{name} is missing"
        elif name not in wanted and name not in ours:
            yield f"{name} was not asked for"
        elif len(found[name]) > 1 or (name in wanted and found[name] != [wanted[name]]):
            yield f"{name} is there as {', '.join(found[name])}; wanted {wanted.get(name, 'once')}"
    for name, dependencies in sorted(needs.items()):
        for requirement in dependencies:
            needed = _normalised(re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0])
            if not re.search(r";.*\bextra\b", requirement) and needed not in found and needed not in OMITTED:
                yield f"{name} needs {requirement}"


def _native_problems(tree: Path, libc: str, arch: str) -> Iterator[str]:
    """Say which native modules are missing for a CPython, doubled, or made for another processor or C library."""
    tags = defaultdict(list)
    names: dict[str, dict[str, str]] = defaultdict(dict)
    for file in sorted(tree.rglob("*.so*")):
        path = file.relative_to(tree).as_posix()
        match = _NATIVE.fullmatch(path)
        if match is not None:
            tags[match["module"]].append(match["version"] or "abi3")
            names[match["version"] or "abi3"].setdefault(match["tag"], path)
        elif not path.split("/")[0].endswith(".libs"):  # libraries that wheels bring along, under names made of hashes
            yield f"{path}: of which CPython, its name does not say"
        content = file.read_bytes()
        if int.from_bytes(content[18:20], "little") != _ELF_MACHINES[arch]:
            yield f"{path}: not for {arch}"
        if (libc == "glibc" and re.search(rb"libc\.musl", content)) or not re.search(_C_LIBRARIES[libc], content):
            yield f"{path}: not for {libc}"
    versions = sorted(version.replace(".", "") for version in PYTHONS)
    for module, there in tags.items():
        if sorted(there) not in (versions, ["abi3"]):
            yield f"{module}: native modules for {', '.join(there)}; needed {', '.join(versions)} or abi3"
    for module in _MUST_BE_NATIVE:
        if module not in tags:
            yield f"{module} is missing"
    for tag, first in names.items():
        if len(first) > 1:  # a CPython looks for one of these names only, and finds no module that has the other
            yield f"CPython {tag}: named in different ways: {', '.join(first.values())}"


def _normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def measure(tree: Path) -> tuple[int, int]:
    """Return the number of files in `tree`, and their bytes."""
    sizes = [path.stat().st_size for path in tree.rglob("*") if path.is_file()]
    return len(sizes), sum(sizes)


def tree_hash(tree: Path) -> str:
    """Return a hash of every file's name and content."""
    total = hashlib.sha256()
    for path in sorted(path.relative_to(tree).as_posix() for path in tree.rglob("*") if path.is_file()):
        total.update(f"{path}\0{hashlib.sha256((tree / path).read_bytes()).hexdigest()}\n".encode())
    return total.hexdigest()


if __name__ == "__main__":
    sys.exit(main())
