"""Has links from a page to files of the repository lead to the forge, where the site does not have those files.

On the forge `../docker/Dockerfile` is a file beside the pages. The site has the pages only. MkDocs calls this as a hook.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

_OUT_OF_DOCS = re.compile(r"(\]\()\.\./([^)#\s]+)")
_ROOT = Path(__file__).parents[1]


def on_page_markdown(markdown: str, *, config: Any, **_: Any) -> str:
    """Return the page with such links made absolute.

    Raises:
        FileNotFoundError: the repository has no such file, so that the build fails.
    """

    def absolute(link: re.Match[str]) -> str:
        path = _ROOT / link[2]
        kind = "tree" if path.resolve(strict=True).is_dir() else "blob"
        return f"{link[1]}{config['repo_url'].rstrip('/')}/{kind}/main/{link[2]}"

    return _OUT_OF_DOCS.sub(absolute, markdown)
