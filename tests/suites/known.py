"""Reads the list of tests that fail with us for a reason that nothing can be done about."""

from __future__ import annotations

import fnmatch
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import tomllib

LIST = Path(__file__).with_name("known.toml")


@dataclass(frozen=True)
class Known:
    """One entry of the list."""

    suite: str
    test: str
    """A pattern as file names have it."""
    reason: str
    pythons: tuple[str, ...] = ()
    """On which versions; without any, on each."""


def read(path: Path = LIST) -> list[Known]:
    """Return the entries.

    Raises:
        TypeError: An entry lacks its suite, test or reason, or has something that nobody knows.
        ValueError: A reason is empty.
    """
    entries = [
        Known(**{**entry, "pythons": tuple(entry.get("pythons", ()))})
        for entry in tomllib.loads(path.read_text()).get("known", [])
    ]
    if unexplained := [entry.test for entry in entries if not entry.reason.strip()]:
        raise ValueError(f"no reason is given for {unexplained}")
    return entries


def matching(entries: Iterable[Known], suite: str, tests: Iterable[str]) -> dict[str, str]:
    """Return those of the suite's tests that the entries allow to differ on this Python, each with its reason."""
    python = "{}.{}".format(*sys.version_info)
    here = [entry for entry in entries if entry.suite == suite and (not entry.pythons or python in entry.pythons)]
    return {test: entry.reason for test in tests for entry in here if fnmatch.fnmatchcase(test, entry.test)}
