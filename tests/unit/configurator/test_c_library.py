"""An old musl, which the agent's library would end the process on, is known before that is loaded."""

from __future__ import annotations

from pathlib import Path

import pytest
from otel_profiling_configurator.agent import agent as agents
from otel_profiling_configurator.agent import c_library


def loader(folder: Path, says: str) -> str:
    """A program that says of itself what musl's loader does."""
    program = folder / "ld-musl-x86_64.so.1"
    program.write_text(f"#!/bin/sh\nprintf '%s\\n' '{says}' >&2\nexit 1\n")
    program.chmod(0o755)
    return str(program)


@pytest.mark.parametrize(
    ("says", "version"),
    [
        ("musl libc (x86_64)\nVersion 1.2.3\nDynamic Program Loader", "1.2.3"),
        ("musl libc (x86_64)\nVersion 1.1.24", "1.1.24"),
        ("musl libc (x86_64)\nVersion 1.2.4", None),
        ("musl libc (x86_64)\nVersion 1.2.5-git", None),
        ("nothing of its version", None),
    ],
)
def test_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, says: str, version: str | None) -> None:
    """It is what the loader says; where that is nothing, the import is tried."""
    monkeypatch.setattr(c_library, "musl_loader", lambda: loader(tmp_path, says))
    monkeypatch.setattr(c_library, "brings_libgcc", lambda: True)
    assert c_library.too_old_musl() == version


def test_library_that_was_built_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """It brings nothing along that an old musl can't load."""
    monkeypatch.setattr(c_library, "musl_loader", lambda: "/lib/ld-musl-x86_64.so.1")
    monkeypatch.setattr(c_library, "brings_libgcc", lambda: False)
    assert c_library.too_old_musl() is None


def test_other_c_libraries() -> None:
    """They are asked nothing."""
    assert c_library.musl_loader() is None or c_library.musl_version(c_library.musl_loader() or "") is not None


def test_old_musl(monkeypatch: pytest.MonkeyPatch, warned: object) -> None:
    """Profiling is off with one warning that says what is needed; traces go on."""
    assert callable(warned)
    monkeypatch.setattr(c_library, "too_old_musl", lambda: "1.2.3")
    assert agents.load() is None
    (line,) = warned()
    assert "musl 1.2.4 or later (Alpine 3.18), and this is 1.2.3" in line
