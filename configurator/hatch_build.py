"""Builds the native module where a compiler is at hand, or takes one that was built for another platform.

Without it the wheel is a pure one, and labels are kept by thread, in Python: README says what that costs in accuracy. Two
environment variables put a module into the wheel that was compiled before, which is how one machine makes the wheels of all
platforms (``release/build.py``):

``NATIVE_MODULE``
    a folder that stands for the one which the package is in: what is compiled in it goes to the same place in the wheel;
``NATIVE_MODULE_TAG``
    the wheel's tag, such as ``cp311-cp311-manylinux_2_17_x86_64``.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

PACKAGE = "otel_profiling_configurator"

COMPILE_ARGS = ("-std=gnu11", "-fvisibility=hidden")
"""For every compiler. Hidden: the files of the module call each other, and a library that the process has loaded before may
have a function of the same name, which would be called instead."""


MODULE = f"{PACKAGE}/native/_native"
"""Where it belongs: its path without a suffix."""


def sources(root: Path) -> list[Path]:
    """Return the files that the module is compiled of; it is one for all platforms and Pythons.

    Args:
        root: The folder that the package is in.
    """
    return sorted(Path(root, MODULE).parent.glob("*.c"))


class NativeModuleBuildHook(BuildHookInterface[Any]):
    """Adds the native module to a wheel; to the source tree where the installation is an editable one."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Find or build the module, or say that there is none."""
        if self.target_name != "wheel":
            return
        built_before = os.environ.get("NATIVE_MODULE")
        if built_before:
            self._add(dict(found(Path(built_before))), build_data)
            build_data["tag"] = os.environ["NATIVE_MODULE_TAG"]
            return
        if sys.implementation.name != "cpython":
            return
        self._folder = tempfile.TemporaryDirectory()  # as long as this hook: until the wheel has been written
        folder = Path(self._folder.name)
        try:
            build(Path(self.root), folder)
        except Exception as error:  # noqa: BLE001 - no compiler, no headers, no setuptools: there is always a wheel
            self.app.display_warning(f"no native module, labels will be kept by thread: it can't be built: {error}")
            return
        files = dict(found(folder))
        if version == "editable":
            for place, file in files.items():
                beside = Path(self.root, f"{place}.new")
                beside.write_bytes(file.read_bytes())
                beside.replace(Path(self.root, place))  # a process may have the former one loaded
        self._add(files, build_data)
        build_data["infer_tag"] = True

    @staticmethod
    def _add(files: dict[str, Path], build_data: dict[str, Any]) -> None:
        for place, file in files.items():
            build_data["force_include"][str(file)] = place
        build_data["pure_python"] = False


def found(folder: Path) -> Iterator[tuple[str, Path]]:
    """Yield each extension module in a folder: its place beside the package, and its file."""
    for file in sorted((folder / PACKAGE).rglob("*.so")):
        yield file.relative_to(folder).as_posix(), file


def build(root: Path, folder: Path) -> None:
    """Build the module for this interpreter, in its place below a folder; raises whatever a compiler may meet."""
    from setuptools import Distribution, Extension  # noqa: PLC0415 - only there where it is needed

    extension = Extension(
        MODULE.replace("/", "."), [str(source) for source in sources(root)], extra_compile_args=list(COMPILE_ARGS)
    )
    distribution = Distribution({"ext_modules": [extension]})
    command = distribution.get_command_obj("build_ext")
    command.build_lib = str(folder)
    command.build_temp = str(folder / "objects")
    command.ensure_finalized()
    command.run()
