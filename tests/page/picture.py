"""Makes the picture of the page, of what the demo does: ``python -m tests.page.picture docs/page.png``."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys

from playwright.sync_api import sync_playwright

COMMAND = [sys.executable, "-m", "otel_profiling_distro.commands", "demo", "--keep"]


def main() -> None:
    file = sys.argv[1]
    demo = subprocess.Popen(COMMAND, stdout=subprocess.PIPE, text=True)
    assert demo.stdout is not None
    try:
        url = next(found[1] for line in demo.stdout if (found := re.search(r"until Ctrl-C: (\S+)", line)))
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
            page = browser.new_page(viewport={"width": 1280, "height": 720}, color_scheme="light")
            page.goto(url)
            page.get_by_role("link", name="POST /checkout", exact=True).click()
            page.wait_for_selector(".graph g.frame")
            page.screenshot(path=file)
            browser.close()
    finally:
        demo.send_signal(signal.SIGINT)
        demo.wait()


if __name__ == "__main__":
    main()
