"""What an examination finds: a fact, what follows from it, and what to do about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import Enum
from typing import Any


class Level(Enum):
    """How bad it is."""

    OK = "ok"
    """As it should be."""
    NOTE = "note"
    """Worth to know, such as what could not be looked at."""
    WARNING = "warning"
    """Profiles arrive, and are less than they could be, or are not found where somebody looks for them."""
    FAULT = "fault"
    """Profiles don't arrive."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One answer. Nothing in it is a secret."""

    question: str
    """What was looked at, in a word or two."""
    level: Level
    fact: str
    consequence: str = ""
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Setting:
    """A setting as it holds."""

    name: str
    """Of the variable."""
    value: str
    """Secrets are masked."""
    source: str
    """A variable, a file and the name there, or ``default``."""


@dataclass(frozen=True, slots=True)
class Report:
    """All that was found."""

    findings: Sequence[Finding]
    settings: Sequence[Setting] = ()

    @property
    def arrives(self) -> bool:
        """Whether profiles would arrive."""
        return all(finding.level is not Level.FAULT for finding in self.findings)

    def as_json(self) -> dict[str, Any]:
        """Return it as values that `json` knows."""
        return {
            "arrives": self.arrives,
            "findings": [{**asdict(finding), "level": finding.level.value} for finding in self.findings],
            "settings": [asdict(setting) for setting in self.settings],
        }
