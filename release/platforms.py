"""What wheels of the native module are made for: each C library and processor, and what they are called by whom."""

from __future__ import annotations

import dataclasses

PYTHONS = ("3.10", "3.11", "3.12", "3.13", "3.14")
"""The CPythons that have wheels: those that pyroscope-io has wheels for."""


@dataclasses.dataclass(frozen=True)
class Platform:
    """One C library on one processor."""

    name: str
    """What people call it here: ``manylinux-x86_64``."""
    target: str
    """What the compiler calls it, with the oldest release of the system that its output must run on."""
    tags: tuple[str, ...]
    """What wheels call it, the plainest first."""
    machine: str
    """``EM_X86_64`` and the like in ELF files, the processor's number in Mach-O files."""
    triplet: str
    """Its part of an extension module's file name."""

    @property
    def system(self) -> str:
        """Return ``manylinux`` (glibc), ``musllinux`` or ``macos``."""
        return self.name.partition("-")[0]

    @property
    def sys_platform(self) -> str:
        """Return what a Python there has as ``sys.platform``."""
        return "darwin" if self.system == "macos" else "linux"

    def suffix(self, python: str) -> str:
        """Return how the file name of an extension module ends for this Python, such as ``3.11``."""
        triplet = self.triplet
        if self.system == "musllinux" and python == "3.10":
            # 3.11 is the first whose configure script tells musl from glibc; 3.10 looks for glibc's name.
            triplet = triplet.replace("musl", "gnu")
        tag = "cpython-" + python.replace(".", "")
        return f".{tag}-{triplet}.so"

    def wheel_tag(self, python: str) -> str:
        """Return the tag of the wheel for this Python."""
        tag = "cp" + python.replace(".", "")
        return f"{tag}-{tag}-{'.'.join(self.tags)}"


PLATFORMS = (
    Platform(
        "manylinux-x86_64",
        "x86_64-linux-gnu.2.17",
        ("manylinux_2_17_x86_64", "manylinux2014_x86_64"),
        "EM_X86_64",
        "x86_64-linux-gnu",
    ),
    Platform(
        "manylinux-aarch64",
        "aarch64-linux-gnu.2.17",
        ("manylinux_2_17_aarch64", "manylinux2014_aarch64"),
        "EM_AARCH64",
        "aarch64-linux-gnu",
    ),
    Platform("musllinux-x86_64", "x86_64-linux-musl", ("musllinux_1_2_x86_64",), "EM_X86_64", "x86_64-linux-musl"),
    Platform("musllinux-aarch64", "aarch64-linux-musl", ("musllinux_1_2_aarch64",), "EM_AARCH64", "aarch64-linux-musl"),
    Platform("macos-x86_64", "x86_64-macos.11.0", ("macosx_11_0_x86_64",), "0x1000007", "darwin"),
    Platform("macos-arm64", "aarch64-macos.11.0", ("macosx_11_0_arm64",), "0x100000c", "darwin"),
)


def by_name(name: str) -> Platform:
    """Return the platform of this name; KeyError for none."""
    return {platform.name: platform for platform in PLATFORMS}[name]
