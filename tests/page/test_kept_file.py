"""The page as one HTML file, as it arrives by mail: opened from a disk, without any server."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import expect

from otel_profiling_distro.page import load_assets, one_file
from otel_profiling_distro.page.keep import keep

from .conftest import Opener, Site, fits, shoot
from .shop import BUY, BUY_SPAN, HOSTILE, MS, profile


@pytest.fixture
def kept(site: Site, tmp_path: Path) -> str:
    site.upload(profile(HOSTILE, [(f"main:1 > {HOSTILE}:2", 20 * MS, {})]))
    file = tmp_path / "profiles.html"
    file.write_text(one_file(site.receiver.store, load_assets()), "utf-8")
    site.receiver.stop()
    return file.as_uri()


def test_views_of_a_kept_file(kept: str, open_page: Opener) -> None:
    """Services, routes, traces, waterfalls and graphs work from the file; nothing is asked of anybody, and markup is text."""
    page = open_page(kept)
    expect(page.locator("tbody tr")).to_have_count(3)
    expect(page.locator("body")).to_contain_text("<script>alert(1)")
    assert page.locator("img").count() == 0
    page.get_by_role("link", name="shop", exact=True).click()
    page.get_by_role("link", name="POST /buy", exact=True).click()
    expect(page.locator("#total")).to_have_text("460 ms")
    expect(page.locator(".graph g.frame").first).to_be_visible()
    shoot(page, "kept-1280")
    page.goto(f"{kept}#/trace?id={BUY}")
    page.locator("ol.waterfall a").first.click()
    expect(page.locator("h1")).to_have_text(f"Span {BUY_SPAN}")
    expect(page.locator("#total")).to_have_text("460 ms")


def test_filters_of_a_kept_file(kept: str, open_page: Opener) -> None:
    """The list of traces is narrowed down without a server, too."""
    page = open_page(f"{kept}#/traces?service=shop", width=400)
    rows = page.locator("tbody tr")
    expect(rows).to_have_count(3)
    assert fits(page)
    page.get_by_label("name of a span").fill("charge")
    expect(rows).to_have_count(1)


def test_kept_folder(site: Site, tmp_path: Path, open_page: Opener) -> None:
    """`--output` keeps the page beside the other files."""
    said = keep(site.receiver.store, tmp_path)
    assert "profiles.html" in said
    page = open_page((tmp_path / "profiles.html").as_uri())
    expect(page.locator("tbody tr")).to_have_count(2)
