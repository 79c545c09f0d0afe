"""Runs the demo and keeps what it prints as ``docs/demo.svg``, the picture in the README."""

import re
import sys
from pathlib import Path

from rich.console import Console

from otel_profiling_distro.commands import demo, main

consoles = []


def recording(stream):
    """Return the console that the demo prints on, one that remembers what was printed."""
    consoles.append(Console(file=stream, record=True, width=110, force_terminal=True, highlight=False))
    return consoles[-1]


demo._console = recording
code = main(["demo"])
svg = consoles[0].export_svg(title="make demo")
# The reader's own monospace font will do: a picture should load nothing from anywhere.
svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL).replace("Fira Code,", "")
Path(__file__).with_name("demo.svg").write_text(svg)
sys.exit(code)
