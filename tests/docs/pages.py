"""README and the documentation, taken apart: fenced blocks, code within lines, links and sections."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
DOCS = REPOSITORY / "docs"
README = REPOSITORY / "README.md"
CONTRIBUTING = REPOSITORY / "CONTRIBUTING.md"

PAGES = [README, CONTRIBUTING, REPOSITORY / "configurator" / "README.md", *sorted(DOCS.glob("*.md"))]
"""Whatever a user or contributor is sent to. What they show as a command is one that works."""

_FENCE = re.compile(
    r"^(?:(?P<before>[^\n]*)\n)?(?P<indent> *)```(?P<language>[^\n]*)\n(?P<text>.*?)^(?P=indent)```$", re.DOTALL | re.MULTILINE
)
_REASON = re.compile(r"\s*<!-- not run: (?P<reason>\S.*) -->")


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    page: Path
    line: int
    """Of its first line of text."""
    language: str
    text: str
    """Without the indentation of the list that it stands in."""
    reason: str
    """Why it can't be run here, as a comment above it says; empty for one that is run."""

    @property
    def place(self) -> str:
        """Where it is, as a failure names it."""
        return f"{self.page.relative_to(REPOSITORY)}:{self.line}"


def blocks(page: Path, language: str | None = None) -> list[Block]:
    """Return the fenced blocks of a page, in their order; only those of one language where it is given."""
    text = page.read_text()
    found = []
    for fence in _FENCE.finditer(text):
        indent = fence["indent"]
        lines = [line.removeprefix(indent) for line in fence["text"].splitlines()]
        reason = _REASON.fullmatch(fence["before"] or "")
        line = text.count("\n", 0, fence.start("text")) + 1
        found.append(Block(page, line, fence["language"], "\n".join(lines) + "\n", reason["reason"] if reason else ""))
    return [block for block in found if language in (None, block.language)]


def prose(page: Path) -> str:
    """Return a page without its fenced blocks."""
    return _FENCE.sub(lambda fence: fence["before"] or "", page.read_text())


def code(page: Path) -> list[str]:
    """Return what stands between backticks within the lines of a page."""
    return [" ".join(found.split()) for found in re.findall(r"`([^`]+)`", prose(page))]


def links(page: Path) -> list[str]:
    """Return where the links and pictures of a page lead."""
    return re.findall(r"\]\(([^)\s]+)\)", prose(page))


def sections(page: Path) -> set[str]:
    """Return the names by which a page's headings can be linked to, as GitHub and MkDocs make them."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
