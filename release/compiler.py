"""Compiles the native module for any platform on this machine, with Zig's C compiler, which PyPI has as `ziglang`.

The output depends on the sources, the headers and the compiler's version only: no path, no date and no identifier of a build
gets into it.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import headers
from platforms import Platform

REPOSITORY = Path(__file__).resolve().parents[1]
CONFIGURATOR = REPOSITORY / "configurator"


class CompilerError(Exception):
    """The compiler refused something; has its own words."""


def load_build_hook() -> ModuleType:
    """Return `configurator/hatch_build.py`, which says what there is to compile."""
    spec = importlib.util.spec_from_file_location("hatch_build", CONFIGURATOR / "hatch_build.py")
    assert spec is not None  # noqa: S101 - the file is there
    assert spec.loader is not None  # noqa: S101 - as above
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


BUILD_HOOK = load_build_hook()

_COMMON = ("-O2", "-DNDEBUG", "-fwrapv", "-fPIC", "-Wall", "-Werror", *BUILD_HOOK.COMPILE_ARGS)
_LINKED = {
    "linux": ("-shared", "-s", "-Wl,--build-id=none"),
    # Names of Python are looked up in the process that loads the module: no library on Linux is named for them, either.
    "darwin": ("-shared", "-s", "-Wl,-undefined,dynamic_lookup"),
}
# Linux's pyconfig.h asks for POSIX, which on macOS would hide what is not in it.
_DEFINED = {"linux": (), "darwin": ("-D_DARWIN_C_SOURCE=1",)}


def compile_module(platform: Platform, python: str, include: Path, output: Path, cache: Path) -> None:
    """Compile the native module to its place below `output`.

    Args:
        platform: What to compile for.
        python: The CPython's version, such as ``3.11``.
        include: Its headers, see `headers.prepare`.
        output: Folder that stands for the one which the package is in.
        cache: Folder that the compiler may keep things in.

    Raises:
        CompilerError: something can't be compiled, or types have other sizes there than the headers say.
    """
    output.mkdir(parents=True, exist_ok=True)
    checks = output / "sizes.c"
    checks.write_text(headers.size_checks((include / "pyconfig.h").read_text()))
    zig = [sys.executable, "-m", "ziglang", "cc", "-target", platform.target, *_DEFINED[platform.sys_platform]]
    _run([*zig, "-c", str(checks), "-o", str(output / "sizes.o")], output, cache)
    file = output / f"{BUILD_HOOK.MODULE}{platform.suffix(python)}"
    file.parent.mkdir(parents=True, exist_ok=True)
    sources = [str(source.relative_to(CONFIGURATOR)) for source in BUILD_HOOK.sources(CONFIGURATOR)]
    flags = [*_COMMON, *_LINKED[platform.sys_platform], f"-ffile-prefix-map={CONFIGURATOR}=.", f"-I{include}"]
    if platform.sys_platform == "darwin":
        flags.append(f"-Wl,-install_name,@rpath/{file.name}")  # otherwise the place where it was linked
    _run([*zig, *flags, *sources, "-o", str(file)], CONFIGURATOR, cache)


def _run(command: list[str], folder: Path, cache: Path) -> None:
    environment = {**os.environ, "ZIG_LOCAL_CACHE_DIR": str(cache), "ZIG_GLOBAL_CACHE_DIR": str(cache)}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise CompilerError(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
