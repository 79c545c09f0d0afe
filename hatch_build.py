"""Puts the built page into wheels and source distributions. Whoever installs from either needs no Node.js."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

sys.path.insert(0, str(Path(__file__).parent / "frontend"))

import build_page


class PageBuildHook(BuildHookInterface[Any]):
    """Builds the page before a distribution is made; not for an editable installation, where `make page` does it."""

    def dependencies(self) -> list[str]:
        """Return Node.js as a Python package where it is needed and the machine has none."""
        needed = not build_page.is_fresh() and build_page.commands_of_node() is None
        return [build_page.NODE_PACKAGE] if needed else []

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Build the page, or say why a distribution is made without one."""
        if version == "editable":
            return
        try:
            build_page.build()
        except build_page.PageError as error:
            # Everything else works without the page, and its commands say that it is missing.
            self.app.display_warning(f"no page in this distribution: {error}")
            return
        if self.target_name == "wheel":
            for name in build_page.FILES:
                build_data["force_include"][str(build_page.BUILT / name)] = f"otel_profiling_distro/page/static/{name}"
        else:
            build_data["artifacts"].extend(f"/otel_profiling_distro/page/static/{name}" for name in build_page.FILES)
