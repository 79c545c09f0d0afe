"""Finds what the front end was built into, reads it once, and says what to do where it was not built."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

_FOLDER = Path(__file__).parent / "static"


class AssetsError(Exception):
    """The page was not built; the message says how to build it."""


@dataclass(frozen=True, slots=True)
class Assets:
    """The page's parts, as text."""

    html: str
    script: str
    style: str


def load_assets(folder: Path = _FOLDER) -> Assets:
    """Return the parts of the page.

    Raises:
        AssetsError: they are not there, as in a clone in which nothing was built.
    """
    try:
        html, script, style = ((folder / name).read_text("utf-8") for name in ("index.html", "page.js", "page.css"))
    except FileNotFoundError as error:
        raise AssetsError("the page was not built; in a clone `make page` does it, with Node.js") from error
    return Assets(html, script, style)
