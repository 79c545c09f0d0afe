"""Builds the one module that is written in C, where it is of use and a compiler is at hand.

It is for CPython 3.14 and later. Without it, and on older Pythons, the wheel is a pure one: the package then follows each
library by itself.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

PACKAGE = "otel_profiling_configurator/switches"
MODULE = "_context_watcher"


class ContextWatcherBuildHook(BuildHookInterface[Any]):
    """Adds the compiled module to a wheel; to the source tree where the installation is an editable one."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Build the module, or say that there is none."""
        if self.target_name != "wheel" or sys.implementation.name != "cpython" or sys.version_info < (3, 14):
            return
        package = Path(self.root, PACKAGE)
        self._folder = tempfile.TemporaryDirectory()  # as long as this hook: until the wheel has been written
        try:
            built = build(package / f"{MODULE}.c", Path(self._folder.name))
        except Exception as error:  # noqa: BLE001 - no compiler, no headers, no setuptools: there is always a wheel
            self.app.display_warning(f"{MODULE} can't be built, each library is followed by itself: {error}")
            return
        if version == "editable":
            (package / built.name).write_bytes(built.read_bytes())
        build_data["pure_python"] = False
        build_data["infer_tag"] = True
        build_data["force_include"][str(built)] = f"{PACKAGE}/{built.name}"


def build(source: Path, folder: Path) -> Path:
    """Build an extension module in a folder and return its file; raises whatever a compiler may meet."""
    from setuptools import Distribution, Extension  # noqa: PLC0415 - only there where it is needed

    distribution = Distribution({"ext_modules": [Extension(MODULE, [str(source)])]})
    command = distribution.get_command_obj("build_ext")
    command.build_lib = command.build_temp = str(folder)
    command.ensure_finalized()
    command.run()
    (built,) = folder.glob(f"{MODULE}.*")
    return built
