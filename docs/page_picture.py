"""Keeps what the demo's page shows of one route as ``docs/page.png``, the picture that README begins with.

Needs the page (`make page`) and a Chromium, which the variable CHROMIUM may name.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

PLACE = "#/profile?service=demo-shop&route=POST%20/checkout"
WIDTH, HEIGHT = 1200, 640


def main() -> None:
    """Run the demo, look at its page, and end it."""
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium") or sys.exit("no chromium: name one with CHROMIUM")
    demo = subprocess.Popen(
        [sys.executable, "-m", "otel_profiling_distro.commands", "demo", "--keep"], stdout=subprocess.PIPE, text=True
    )
    assert demo.stdout is not None  # noqa: S101 - for the type checker
    try:
        addresses = (re.search(r"until Ctrl-C: (http://\S+)", line) for line in demo.stdout)
        address = next(filter(None, addresses))[1]
        options = ["--headless", "--no-sandbox", "--hide-scrollbars", "--virtual-time-budget=5000"]
        picture = Path(__file__).with_name("page.png")
        subprocess.run(
            [chromium, *options, f"--window-size={WIDTH},{HEIGHT}", f"--screenshot={picture}", f"{address}/{PLACE}"], check=True
        )
    finally:
        demo.send_signal(signal.SIGINT)
        demo.wait()


if __name__ == "__main__":
    main()
