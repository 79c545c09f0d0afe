"""Whether the versions that are installed there fit each other, as their own metadata says.

An installer sees to that. What is installed afterwards can undo it without a word, and each of OpenTelemetry's packages is made
for one release of the others.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from .finding import Finding, Level


def findings(told: Mapping[str, Any]) -> Iterator[Finding]:
    """Yield each requirement that is not met, of the packages by which an application is profiled.

    Args:
        told: What the probe said. It has no requirements where the probe is older.
    """
    installed: Mapping[str, str] = {canonicalize_name(name): version for name, version in told["distributions"].items()}
    there = {"python_version": ".".join(str(told["python"]).split(".")[:2]), "python_full_version": told["python"], "extra": ""}
    for name, requirements in told["requires"].items():
        for text in requirements:
            try:
                wanted = Requirement(text)
                if wanted.marker is not None and not wanted.marker.evaluate(there):
                    continue
                version = installed.get(canonicalize_name(wanted.name))
                if version is not None and wanted.specifier.contains(version, prereleases=True):
                    continue
            except (InvalidRequirement, ValueError):
                continue  # not in the form that the standards have
            yield Finding(
                "versions",
                Level.WARNING,
                f"{name} wants {wanted.name}{wanted.specifier}, and {version or 'none'} is installed.",
                "They don't fit: traces or profiles may fail to start, or lack something.",
                f"pip install '{name}' '{wanted.name}{wanted.specifier}'",
            )
