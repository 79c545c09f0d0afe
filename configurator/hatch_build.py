"""Builds the native module where a compiler is at hand.

Without it the wheel is a pure one, and labels are kept by thread, in Python: README says what that costs in accuracy.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

FOLDER = "otel_profiling_configurator/native"
MODULE = "_native"


class ExtensionsBuildHook(BuildHookInterface[Any]):
    """Adds the native module to a wheel; to the source tree where the installation is an editable one."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Build the module, or say that there is none."""
        if self.target_name != "wheel" or sys.implementation.name != "cpython":
            return
        self._folder = tempfile.TemporaryDirectory()  # as long as this hook: until the wheel has been written
        try:
            file = build(Path(self.root, FOLDER), Path(self._folder.name))
        except Exception as error:  # noqa: BLE001 - no compiler, no headers, no setuptools: there is always a wheel
            self.app.display_warning(f"no native module, labels are kept by thread: it can't be built: {error}")
            return
        place = f"{FOLDER}/{file.name}"
        if version == "editable":
            beside = Path(self.root, f"{place}.new")
            beside.write_bytes(file.read_bytes())
            beside.replace(Path(self.root, place))  # a process may have the former one loaded
        build_data["force_include"][str(file)] = place
        build_data["pure_python"] = False
        build_data["infer_tag"] = True


def build(sources: Path, folder: Path) -> Path:
    """Build the module in a folder and return its file; raises whatever a compiler may meet."""
    from setuptools import Distribution, Extension  # noqa: PLC0415 - only there where it is needed

    extension = Extension(MODULE, sorted(map(str, sources.glob("*.c"))), depends=[str(sources / "native.h")])
    distribution = Distribution({"ext_modules": [extension]})
    command = distribution.get_command_obj("build_ext")
    command.build_lib = command.build_temp = str(folder)
    command.ensure_finalized()
    command.run()
    (built,) = folder.glob(f"{MODULE}.*.so")
    return built
