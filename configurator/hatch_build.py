"""Builds the modules that are written in C, where they are of use and a compiler is at hand.

Without them the wheel is a pure one: the package then does the same in Python (`_thread_labels`, and
`_sampler`, which is for Linux), and follows each library by itself (`_context_watcher`, which is for CPython 3.14 and later).
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

PACKAGE = "otel_profiling_configurator"
MODULES = (
    "_thread_labels",
    *(("_sampler",) if sys.platform == "linux" else ()),
    *(("switches/_context_watcher",) if sys.version_info >= (3, 14) else ()),
)


class ExtensionsBuildHook(BuildHookInterface[Any]):
    """Adds the compiled modules to a wheel; to the source tree where the installation is an editable one."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Build the modules, or say that there are none."""
        if self.target_name != "wheel" or sys.implementation.name != "cpython":
            return
        self._folder = tempfile.TemporaryDirectory()  # as long as this hook: until the wheel has been written
        built: dict[str, Path] = {}
        try:
            for module in MODULES:
                source = Path(self.root, PACKAGE, f"{module}.c")
                file = build(source, Path(self._folder.name))
                built[f"{PACKAGE}/{Path(module).with_name(file.name)}"] = file
        except Exception as error:  # noqa: BLE001 - no compiler, no headers, no setuptools: there is always a wheel
            self.app.display_warning(f"no modules in C, the same is done in Python: they can't be built: {error}")
            return
        for place, file in built.items():
            if version == "editable":
                beside = Path(self.root, f"{place}.new")
                beside.write_bytes(file.read_bytes())
                beside.replace(Path(self.root, place))  # a process may have the former one loaded
            build_data["force_include"][str(file)] = place
        build_data["pure_python"] = False
        build_data["infer_tag"] = True


def build(source: Path, folder: Path) -> Path:
    """Build an extension module in a folder and return its file; raises whatever a compiler may meet."""
    from setuptools import Distribution, Extension  # noqa: PLC0415 - only there where it is needed

    distribution = Distribution({"ext_modules": [Extension(source.stem, [str(source)])]})
    command = distribution.get_command_obj("build_ext")
    command.build_lib = command.build_temp = str(folder)
    command.ensure_finalized()
    command.run()
    (built,) = folder.glob(f"{source.stem}.*.so")
    return built
