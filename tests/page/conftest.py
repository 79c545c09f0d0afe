"""A receiver with its page, as `otel-profiling serve` has it, and a real browser that looks at it."""

from __future__ import annotations

import http.client
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from otel_profiling_distro.page import load_assets, page_routes
from otel_profiling_distro.receiver import Receiver

from .shop import upload_shop
from .uploads import PUSH, TRACES

SHOTS = Path(__file__).parents[2] / "build" / "page"
"""What the browser showed, for somebody to look at."""


class Site:
    """A receiver with its page, and what is sent to it."""

    def __init__(self, receiver: Receiver) -> None:
        self.receiver = receiver
        self.url = receiver.url

    def post(self, path: str, body: bytes) -> None:
        connection = http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=10)
        connection.request("POST", path, body)
        answer = connection.getresponse()
        assert answer.status == 200, answer.read()
        connection.close()

    def upload(self, profile: bytes | None = None, spans: bytes | None = None) -> None:
        if profile is not None:
            self.post(PUSH, profile)
        if spans is not None:
            self.post(TRACES, spans)


@pytest.fixture
def empty_site() -> Iterator[Site]:
    receiver = Receiver()
    receiver.start(page_routes(receiver.store, load_assets()))
    yield Site(receiver)
    receiver.stop()
    assert receiver.refusals() == []


@pytest.fixture
def site(empty_site: Site) -> Site:
    """A site that has what `shop` describes."""
    upload_shop(empty_site.upload)
    return empty_site


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    executable = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    if executable is None:
        pytest.fail("no chromium: apt-get install chromium, or name one with CHROMIUM")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        yield browser
        browser.close()


Opener = Callable[..., Page]


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Opener]:
    """Open an address in a window of some width; at the end nothing may have gone wrong in it, or been asked of others."""
    contexts = []
    faults: list[str] = []

    def open_(url: str, width: int = 1280, scheme: str = "light", *, expect_faults: bool = False) -> Page:
        context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme, reduced_motion="reduce")
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(10_000)
        host = urlsplit(url).netloc
        if not expect_faults:
            page.on("pageerror", lambda error: faults.append(str(error)))
            page.on("console", lambda message: message.type == "error" and faults.append(message.text))
        page.on("dialog", lambda dialog: (faults.append(f"dialog {dialog.message}"), dialog.dismiss()))
        page.on(
            "request",
            lambda request: urlsplit(request.url).netloc not in {host, ""} and faults.append(f"asked {request.url}"),
        )
        page.goto(url)
        return page

    yield open_
    for context in contexts:
        context.close()
    assert faults == []


def shoot(page: Page, name: str) -> None:
    """Keep what the page shows."""
    SHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SHOTS / f"{name}.png")


def fits(page: Page) -> bool:
    """Whether nothing has to be scrolled sideways."""
    return bool(page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth"))
