"""Builds what is published, on one Linux machine: wheels of the native module for every platform, pure ones, and sources.

Each wheel with a native module is one that `configurator/hatch_build.py` is given the module for. Needs the dependency group
``release``, and the headers of each CPython; those that are not found are named, and have no wheel::

    python release/build.py --output dist
    python release/build.py --output dist --platform musllinux-x86_64 --python 3.13

The same sources, headers and compiler give the same bytes on any machine.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import headers
from compiler import CONFIGURATOR, REPOSITORY, CompilerError, compile_module
from platforms import PLATFORMS, PYTHONS, Platform, by_name

EPOCH = "1577836800"
"""The time of every file in an archive, in seconds since 1970: 2020 began. Zip can't say one before 1980."""


class BuildError(Exception):
    """The build backend failed; has its own words."""


def main() -> int:
    """Build what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--output", type=Path, help="folder to put it into; what is there is removed")
    parser.add_argument("--missing", action="store_true", help="only print which CPythons have no headers here")
    parser.add_argument("--platform", action="append", choices=[platform.name for platform in PLATFORMS], help="default: each")
    parser.add_argument("--python", action="append", choices=PYTHONS, help="version of CPython (default: each)")
    parser.add_argument("--cache", type=Path, help="folder that the compiler keeps things in from one time to the next")
    arguments = parser.parse_args()
    if arguments.missing:
        print(*(python for python in PYTHONS if headers.find(python) is None))
        return 0
    if arguments.output is None:
        parser.error("--output is needed")
    output: Path = arguments.output.resolve()
    shutil.rmtree(output, ignore_errors=True)
    platforms = [by_name(name) for name in arguments.platform or [platform.name for platform in PLATFORMS]]
    with tempfile.TemporaryDirectory() as scratch:
        cache = (arguments.cache or Path(scratch, "cache")).resolve()
        try:
            folders = prepare_headers(arguments.python or PYTHONS, Path(scratch))
            build_pure(output)
            build_native(platforms, folders, output, Path(scratch), cache)
        except (BuildError, CompilerError, headers.HeadersError) as error:
            print(error, file=sys.stderr)
            return 1
    return 0


def prepare_headers(pythons: list[str] | tuple[str, ...], scratch: Path) -> dict[str, Path]:
    """Return a folder with the headers of each CPython that has some here; name the others on standard error."""
    folders = {}
    for python in pythons:
        found = headers.find(python)
        if found is None:
            print(
                f"No headers of Python {python} are found, so there is no native wheel for it: name a folder that has "
                f"python{python}/Python.h in PYTHON_HEADERS.",
                file=sys.stderr,
            )
        else:
            folders[python] = headers.prepare(found, scratch / "headers" / python)
    return folders


def build_pure(output: Path) -> None:
    """Build both distributions' sources and their wheels without native modules."""
    hatchling(CONFIGURATOR, output, "sdist", "wheel", HATCH_BUILD_NO_HOOKS="true")
    hatchling(REPOSITORY, output, "sdist", "wheel")  # its hook builds the page


def build_native(platforms: list[Platform], folders: dict[str, Path], output: Path, scratch: Path, cache: Path) -> None:
    """Build a wheel of the configurator for each platform and each CPython."""

    def build(platform: Platform, python: str) -> None:
        module = scratch / "modules" / platform.name / python
        compile_module(platform, python, folders[python], module, cache)
        hatchling(CONFIGURATOR, output, "wheel", NATIVE_MODULE=str(module), NATIVE_MODULE_TAG=platform.wheel_tag(python))

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for future in [pool.submit(build, platform, python) for platform in platforms for python in folders]:
            future.result()


def hatchling(root: Path, output: Path, *targets: str, **variables: str) -> None:
    """Run the build backend on a project; it needs nothing from the network."""
    command = [sys.executable, "-m", "hatchling", "build", "--directory", str(output)]
    for target in targets:
        command += ["--target", target]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("HATCH_", "NATIVE_MODULE"))}
    environment.update({"SOURCE_DATE_EPOCH": EPOCH, **variables})
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise BuildError(f"{' '.join(command)}\n{done.stdout}{done.stderr}")


if __name__ == "__main__":
    sys.exit(main())
