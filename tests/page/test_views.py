"""Every view in a real browser: what it shows is what came, at both widths, in light and dark, by keyboard."""

from __future__ import annotations

import json
import re
import time
from collections import defaultdict
from collections.abc import Callable
from urllib.parse import urlencode

import pytest
from playwright.sync_api import Page, expect

from otel_profiling_distro.receiver import Sample

from .conftest import Opener, Site, fits, shoot
from .shop import BUY, BUY_SPAN, BUYING, FIND, FIND_SPAN, FINDING, HOSTILE, MS, ODD, profile, spans


def view(site: Site, name: str, **query: str) -> str:
    return f"{site.url}/#/{name}?{urlencode(query)}"


def difference(site: Site) -> str:
    before, after = {"service": "shop", "route": "POST /buy"}, {"service": "shop", "route": "GET /find"}
    return view(site, "difference", a=json.dumps(before), b=json.dumps(after))


PLACES = {
    "services": lambda site: f"{site.url}/",
    "service": lambda site: view(site, "service", service="shop"),
    "traces": lambda site: view(site, "traces", service="shop"),
    "trace": lambda site: view(site, "trace", id=BUY),
    "profile": lambda site: view(site, "profile", service="shop"),
    "difference": difference,
}


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (400, "dark")])
@pytest.mark.parametrize("place", PLACES)
def test_every_view(site: Site, open_page: Opener, place: str, width: int, scheme: str) -> None:
    """Each view is there at both widths, in light and dark; nothing needs to be scrolled sideways."""
    page = open_page(PLACES[place](site), width, scheme)
    expect(page.locator("h1")).to_be_visible()
    if place in {"profile", "difference"}:
        expect(page.locator(".graph g.frame").first).to_be_visible()
        expect(page.locator(".d3-flame-graph-label", has_text="serve").first).to_be_visible()
    shoot(page, f"{place}-{width}")
    assert fits(page)
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", ground))) > 380) == (scheme == "light")


def test_nothing_yet(empty_site: Site, open_page: Opener) -> None:
    """Before anything has come the page says what to do, and shows what comes without being asked."""
    page = open_page(empty_site.url)
    expect(page.locator("main")).to_contain_text("otel-profiling run -- python app.py")
    expect(page.locator("main")).to_contain_text(f"OTEL_PROFILING_SERVER_ADDRESS={empty_site.url}")
    shoot(page, "nothing-1280")
    empty_site.upload(profile("shop", [("main:1", 10 * MS, {})]))
    expect(page.locator("h1")).to_have_text("shop")
    expect(page.locator("table")).to_contain_text("outside any span")


def test_no_traces(empty_site: Site, open_page: Opener) -> None:
    """Where profiles come and traces don't, the page says what traces need."""
    empty_site.upload(profile("shop", [("main:1", 10 * MS, {})]))
    for name in ("service", "traces"):
        page = open_page(view(empty_site, name, service="shop"))
        expect(page.locator("main")).to_contain_text("OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf")
    empty_site.upload(spans=spans("shop", (BUY, BUY_SPAN, "", "GET /", 0, 5)))
    expect(page.locator("tbody tr")).to_have_count(1)
    expect(page.locator("main")).not_to_contain_text("OTEL_EXPORTER")


def test_services(site: Site, open_page: Opener) -> None:
    """Services are listed by CPU time, and lead to their routes."""
    page = open_page(site.url)
    rows = page.locator("tbody tr")
    expect(rows).to_have_count(2)
    expect(rows.nth(0)).to_contain_text("shop")
    expect(rows.nth(0)).to_contain_text("750 ms")
    expect(rows.nth(1)).to_contain_text("70.0 ms")
    page.get_by_role("link", name="shop", exact=True).click()
    expect(page.locator("h1")).to_have_text("shop")


def test_routes(site: Site, open_page: Opener) -> None:
    """A route has its CPU time, share, spans, CPU a span and its hottest function; two clicks from the start, its graph."""
    page = open_page(view(site, "service", service="shop"))
    buy = page.locator("tbody tr", has_text="POST /buy")
    for expected in ("460 ms", "61 %", "98 %", "price"):
        expect(buy).to_contain_text(expected)
    expect(page.locator("tbody tr").last).to_contain_text("outside any span")
    expect(buy.locator("svg.columns rect")).to_have_count(60)
    buy.get_by_role("link", name="POST /buy", exact=True).click()
    expect(page.locator("h1")).to_have_text("POST /buy")
    expect(page.locator(".graph g.frame", has_text="price").first).to_be_visible()


def tree(samples: list[Sample], lines: bool = False) -> dict[str, int]:
    """What a flame graph of these samples must be: the value of each path of names."""
    values: dict[str, int] = defaultdict(int)
    for sample in samples:
        path = "all"
        values[path] += sample.value
        for frame in reversed(sample.stack):
            path += f" > {frame.function}:{frame.line}" if lines else f" > {frame.function}"
            values[path] += sample.value
    return dict(values)


DRAWN = """() => {
  const path = (node) => (node.parent ? path(node.parent) + " > " : "") + node.data.name;
  const all = {};
  document.querySelector(".graph").__data__.each((node) => { all[path(node)] = node.data.value; });
  return all;
}"""

SELECTIONS = {
    "service": ({"service": "shop"}, bool),
    "route": ({"service": "shop", "route": "POST /buy"}, lambda sample: sample.label("span_name") == "POST /buy"),
    "outside": ({"service": "shop", "outside": "1"}, lambda sample: sample.label("span_name") is None),
    "trace": ({"trace": FIND}, lambda sample: sample.label("trace_id") == FIND),
    "span": ({"span": BUY_SPAN}, lambda sample: sample.label("span_id") == BUY_SPAN),
}


@pytest.mark.parametrize("lines", [False, True])
@pytest.mark.parametrize("selection", SELECTIONS)
def test_totals(site: Site, open_page: Opener, selection: str, lines: bool) -> None:
    """Each frame of a flame graph has what the receiver's samples add up to, to the nanosecond."""
    query, chosen = SELECTIONS[selection]
    samples = [s for s in site.receiver.samples("shop") if chosen(s) and s.series.get("clock") != "wall"]
    assert samples
    page = open_page(view(site, "profile", **query))
    expect(page.locator(".graph g.frame").first).to_be_visible()
    if lines:
        page.get_by_label("by line").check()
        expect(page.locator(".d3-flame-graph-label", has_text=re.compile(r":\d+$")).first).to_be_visible()
    assert page.locator("#total").get_attribute("data-total") == str(sum(sample.value for sample in samples))
    assert page.evaluate(DRAWN) == tree(samples, lines)


def test_wall_clock(site: Site, open_page: Opener) -> None:
    """Time by the clock on the wall is a profile of its own, and no part of the CPU time."""
    page = open_page(view(site, "profile", service="shop", route="POST /buy"))
    page.get_by_role("link", name="wall-clock time").click()
    expect(page.locator("h1")).to_contain_text("wall-clock time")
    expect(page.locator("#total")).to_have_text("900 ms")


def test_table(site: Site, open_page: Opener) -> None:
    """The table has each function's own time and that until it returned, recursion counted once; it sorts and is searched."""
    page = open_page(view(site, "profile", service="shop", route="GET /find"))
    rows = page.locator(".list tbody tr")
    expect(rows.nth(0)).to_contain_text("score")
    expect(rows.nth(0).locator("td").nth(1)).to_have_text("220 ms")
    expect(rows.nth(0).locator("td").nth(2)).to_have_text("220 ms")
    page.get_by_role("button", name="function", exact=False).first.click()
    expect(rows.nth(0)).to_contain_text("find")
    page.get_by_label("search").fill("SCO")
    expect(rows).to_have_count(1)
    expect(page.locator("output")).to_contain_text("220 ms, 100 %")
    shoot(page, "search-1280")


def test_search_in_the_graph(site: Site, open_page: Opener) -> None:
    """A search colours what it finds and says how much that is; it is no regular expression."""
    page = open_page(view(site, "profile", service="shop"))
    page.get_by_label("search").fill("price")
    expect(page.locator("output")).to_contain_text("450 ms")
    expect(page.locator('.graph g[name="price"] rect').first).to_have_attribute("fill", "var(--found)")
    page.get_by_label("search").fill("price(")
    expect(page.locator("output")).to_contain_text("0, 0.0 %")


def wait_until(page: Page, condition: Callable[[], bool]) -> None:
    """Wait for what no locator can say; playwright's own way needs a policy that lets strings be run."""
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        page.wait_for_timeout(20)


def width_of(page: Page, name: str) -> float:
    box = page.locator(f'.graph g[name="{name}"] rect').first.bounding_box()
    return 0.0 if box is None else box["width"]


def test_zoom(site: Site, open_page: Opener) -> None:
    """A click on a frame makes it as wide as the graph, and one button shows all again."""
    page = open_page(view(site, "profile", service="shop"))
    expect(page.locator('.graph g[name="find"]')).to_be_visible()
    assert width_of(page, "find") < 400
    page.locator('.graph g[name="find"]').first.click()
    expect(page.locator(".details")).to_contain_text("find")
    wait_until(page, lambda: width_of(page, "find") > 600)
    page.get_by_role("button", name="Show all").click()
    wait_until(page, lambda: width_of(page, "find") < 400)


def test_callers_and_callees(site: Site, open_page: Opener) -> None:
    """A function's callers and what it calls are two graphs, with the times of its calls alone."""
    page = open_page(view(site, "profile", service="shop"))
    page.locator(".symbol", has_text="price").click()
    expect(page.locator("h2").first).to_contain_text("callers of price: 450 ms")
    graphs = page.locator(".graph")
    expect(graphs).to_have_count(2)
    expect(graphs.nth(0).locator('g[name="fraud"]')).to_have_count(1)
    values = page.evaluate(DRAWN)
    assert values["price"] == 450 * MS + 3
    assert values["price > buy"] == 400 * MS + 3
    assert values["price > fraud > buy"] == 50 * MS
    shoot(page, "sandwich-1280")
    page.get_by_role("button", name="Whole flame graph").click()
    expect(page.locator(".graph")).to_have_count(1)


def test_both_directions(site: Site, open_page: Opener) -> None:
    """The root is at the top, or at the bottom where that is asked for."""
    page = open_page(view(site, "profile", service="shop"))

    def place(name: str) -> float:
        return page.locator(f'.graph g[name="{name}"]').first.bounding_box()["y"]

    expect(page.locator('.graph g[name="buy"]')).to_be_visible()
    assert place("all") < place("buy")
    page.get_by_label("root at the bottom").check()
    expect(page.locator('.graph g[name="buy"]')).to_be_visible()
    assert place("all") > place("buy")


def test_traces(site: Site, open_page: Opener) -> None:
    """Traces are listed newest first, with duration, CPU and wait; name, least CPU and id narrow them down."""
    page = open_page(view(site, "traces", service="shop"))
    rows = page.locator("tbody tr")
    expect(rows).to_have_count(3)
    expect(rows.nth(0)).to_contain_text("<script>")
    expect(rows.nth(2)).to_contain_text("POST /buy")
    for expected in ("1.00 s", "460 ms", "540 ms", "bank, shop"):
        expect(rows.nth(2)).to_contain_text(expected)
    page.get_by_label("name of a span").fill("CHARGE")
    expect(rows).to_have_count(1)
    page.get_by_label("name of a span").fill("")
    page.get_by_label("least CPU in ms").fill("200")
    expect(rows).to_have_count(2)
    page.get_by_label("trace id").fill("b2b2")
    expect(rows).to_have_count(1)
    expect(rows).to_contain_text("GET /find")
    page.get_by_label("trace id").fill("ffff")
    expect(page.locator("main")).to_contain_text("No trace is like this.")


def test_typing_goes_on(site: Site, open_page: Opener) -> None:
    """While the list changes with each letter, the field keeps the focus and what is typed."""
    page = open_page(view(site, "traces", service="shop"))
    page.get_by_label("name of a span").focus()
    page.keyboard.type("get /", delay=120)
    page.keyboard.type("find", delay=120)
    expect(page.locator("tbody tr")).to_have_count(1)
    expect(page.get_by_label("name of a span")).to_be_focused()
    expect(page.get_by_label("name of a span")).to_have_value("get /find")


def test_waterfall(site: Site, open_page: Opener) -> None:
    """A trace's spans stand under their parents, those of other services too; a profile's owner has its CPU share and graph."""
    page = open_page(view(site, "trace", id=BUY))
    lines = page.locator("ol.waterfall > li")
    expect(lines).to_have_count(4)
    assert [re.split(r"shop|bank", text)[0] for text in lines.locator(".name").all_inner_texts()] == [
        "POST /buy", "charge card", "sign", "settle",
    ]  # fmt: skip
    expect(lines.nth(0)).to_contain_text("460 ms, 46 %")
    expect(lines.nth(1)).to_contain_text("in its root")
    wait, share = (lines.nth(0).locator(f"rect.{name}").bounding_box()["width"] for name in ("wait", "share"))
    assert share / wait == pytest.approx(0.46, abs=0.01)
    lines.nth(0).get_by_role("link").click()
    expect(page.locator("#total")).to_have_text("460 ms")


def test_difference(site: Site, open_page: Opener) -> None:
    """One profile is chosen, another opened: red is what has become more, blue what has become less."""
    page = open_page(view(site, "profile", service="shop", route="POST /buy"))
    page.get_by_role("button", name="Compare with another").click()
    page.get_by_role("link", name="routes").click()
    page.get_by_role("link", name="GET /find", exact=True).click()
    page.get_by_role("link", name="difference to POST /buy").click()
    expect(page.locator("h1")).to_have_text("Difference: POST /buy and GET /find")
    score = page.locator('.graph g[name="score"] rect').first
    price = page.locator('.graph g[name="price"] rect').first
    expect(score).to_have_attribute("fill", "color-mix(in srgb, var(--more) 100%, var(--frame-root))")
    expect(price).to_have_attribute("fill", "color-mix(in srgb, var(--less) 100%, var(--frame-root))")
    row = page.locator(".list tbody tr", has_text="score")
    expect(row).to_contain_text("+100 %")
    shoot(page, "difference-chosen-1280")


@pytest.mark.parametrize(
    ("name", "query"),
    [
        ("service", {"service": "shop"}),
        ("traces", {"service": "shop"}),
        ("trace", {"id": ODD}),
        ("profile", {"service": "shop", "route": HOSTILE}),
        ("profile", {"service": HOSTILE}),
        ("service", {"service": HOSTILE}),
        ("difference", {"a": json.dumps({"route": HOSTILE}), "b": json.dumps({"service": "shop"})}),
    ],
)
def test_hostile_names(site: Site, open_page: Opener, name: str, query: dict[str, str]) -> None:
    """Markup in the name of a span, a function or a service is text wherever it appears."""
    site.upload(profile(HOSTILE, [(f"main:1 > {HOSTILE}:2", 20 * MS, BUYING)]))
    page = open_page(view(site, name, **query))
    expect(page.locator("body")).to_contain_text("<script>alert(1)")
    assert page.locator("img").count() == 0
    assert page.locator("script").count() == 1


def test_follows(site: Site, open_page: Opener) -> None:
    """What comes in appears by itself, unless that is switched off; a zoomed graph is left as it is until somebody asks."""
    page = open_page(view(site, "profile", service="shop"))
    expect(page.locator("#total")).to_have_text("750 ms")
    site.upload(profile("shop", [("main:1", 250 * MS, {})]))
    expect(page.locator("#total")).to_have_text("1.00 s")
    page.locator('.graph g[name="find"]').first.click()
    site.upload(profile("shop", [("main:1", 500 * MS, {})]))
    expect(page.locator("#news")).to_contain_text("More has come in.")
    expect(page.locator("#total")).to_have_text("1.00 s")
    page.get_by_role("button", name="Show it").click()
    expect(page.locator("#total")).to_have_text("1.50 s")


def test_server_that_has_gone(site: Site, open_page: Opener) -> None:
    """When the server ends the page says so, and what it showed stays."""
    page = open_page(view(site, "service", service="shop"), expect_faults=True)
    expect(page.locator("table")).to_be_visible()
    site.receiver.stop()
    expect(page.locator("#news")).to_contain_text("Is otel-profiling still running?")
    expect(page.locator("table")).to_be_visible()


def press_until(page: Page, key: str, selector: str) -> None:
    for _ in range(60):
        page.keyboard.press(key)
        if page.evaluate("selector => document.activeElement.matches(selector)", selector):
            return
    pytest.fail(f"{key} did not lead to {selector}")


def test_what_is_under_the_mouse(site: Site, open_page: Opener) -> None:
    """A frame says what it is as soon as the mouse is on it, and the selected one again when the mouse has left."""
    page = open_page(view(site, "profile", service="shop"))
    details = page.locator(".details")
    page.locator('.graph g[name="price"]').first.hover()
    expect(details).to_contain_text("price · 400 ms (53 %), itself 400 ms · /srv/shop/app.py:21, 22")
    page.locator("h1").hover()
    expect(details).to_be_empty()
    page.locator(".graph").press("ArrowDown")
    page.locator('.graph g[name="price"]').first.hover()
    page.locator("h1").hover()
    expect(details).to_contain_text(re.compile("^all "))


def test_follows_under_somebody_at_work(site: Site, open_page: Opener) -> None:
    """What comes in neither takes a selected frame away, nor scrolls a table back to its top."""
    page = open_page(view(site, "profile", service="shop"))
    page.set_viewport_size({"width": 1280, "height": 200})
    page.locator(".list").evaluate("list => list.scrollTo(0, 90)")
    site.upload(profile("shop", [("main:1", 250 * MS, {})]))
    expect(page.locator("#total")).to_have_text("1.00 s")
    assert page.locator(".list").evaluate("list => list.scrollTop") == 90
    page.locator(".graph").press("ArrowDown")
    page.keyboard.press("ArrowDown")
    site.upload(profile("shop", [("main:1", 250 * MS, {})]))
    expect(page.locator("#news")).to_contain_text("More has come in.")
    expect(page.locator(".details")).to_contain_text(re.compile("^main "))


def test_from_a_profile_to_its_traces(site: Site, open_page: Opener) -> None:
    """A route's profile leads to the route's traces, and a span's to its trace."""
    page = open_page(view(site, "profile", service="shop", route="GET /find"))
    page.get_by_role("link", name="traces", exact=True).click()
    expect(page.locator("h1")).to_have_text("Traces of shop")
    expect(page.locator("tbody tr")).to_have_count(1)
    page.locator("tbody a").click()
    page.locator("ol.waterfall a").click()
    expect(page.locator("h1")).to_have_text(f"Span {FIND_SPAN}")
    expect(page.locator("#total")).to_have_text("220 ms")
    page.get_by_role("link", name="waterfall").click()
    expect(page.locator("h1")).to_have_text("Trace GET /find")


def test_difference_of_two_services(site: Site, open_page: Opener) -> None:
    """Routes of the same name are told apart by their services."""
    site.upload(profile("old shop", [("main:1 > find:2", 70 * MS, FINDING)]))
    before, after = ({"service": service, "route": "GET /find"} for service in ("old shop", "shop"))
    page = open_page(view(site, "difference", a=json.dumps(before), b=json.dumps(after)))
    expect(page.locator("h1")).to_have_text("Difference: GET /find of old shop and GET /find of shop")


def test_keyboard_only(site: Site, open_page: Opener) -> None:
    """From the list of services to a function's callers without a mouse; what has the focus is seen."""
    page = open_page(site.url)
    expect(page.locator("tbody")).to_be_visible()
    press_until(page, "Tab", "tbody tr:first-child td:first-child a")
    page.keyboard.press("Enter")
    expect(page.locator("h1")).to_have_text("shop")
    press_until(page, "Tab", 'a[href*="POST"]')
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.keyboard.press("Enter")
    expect(page.locator("h1")).to_have_text("POST /buy")
    expect(page.locator(".graph g.frame").first).to_be_visible()
    press_until(page, "Tab", ".graph")
    details = page.locator(".details")
    for key, name in (("ArrowDown", "all"), ("ArrowDown", "main"), ("ArrowDown", "serve"), ("ArrowDown", "buy"),
                      ("ArrowDown", "price"), ("ArrowRight", "fraud"), ("ArrowLeft", "price")):  # fmt: skip
        page.keyboard.press(key)
        expect(details).to_contain_text(re.compile(f"^{name} "))
    page.keyboard.press("Enter")
    wait_until(page, lambda: width_of(page, "price") > 600)
    shoot(page, "keyboard-1280")
    page.keyboard.press("Escape")
    expect(details).to_be_empty()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    press_until(page, "Shift+Tab", '[data-key="focus"]')
    page.keyboard.press("Enter")
    expect(page.locator("h2").first).to_contain_text("callers of main")


def test_span_without_samples(site: Site, open_page: Opener) -> None:
    """A span that is too short for a sample says so instead of an empty graph."""
    site.upload(spans=spans("shop", ("e5" * 16, "e5" * 8, "", "GET /quick", 0, 1)))
    page = open_page(view(site, "profile", span="e5" * 8))
    expect(page.locator("main")).to_contain_text("No samples here.")


def test_trace_that_is_not_there(site: Site, open_page: Opener) -> None:
    """An address of a trace that has gone says so."""
    page = open_page(view(site, "trace", id="f" * 32), expect_faults=True)
    expect(page.locator("main")).to_contain_text("no such trace, or not any more")


def test_difference_of_nothing(site: Site, open_page: Opener) -> None:
    """So does one of a difference that was cut short."""
    page = open_page(view(site, "difference", a='{"service":"sh', b="null"))
    expect(page.locator("main")).to_contain_text("This address names no two profiles.")


def test_find_span(site: Site, open_page: Opener) -> None:
    """The span of a route's own trace has the profile of that route's one request."""
    page = open_page(view(site, "profile", span=FIND_SPAN))
    expect(page.locator("#total")).to_have_text("220 ms")
