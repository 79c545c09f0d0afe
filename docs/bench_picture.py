"""Draws ``docs/accuracy.svg`` and ``docs/cost.svg`` from what the benchmarks kept: `accuracy.py --json`, `cost.py --json`.

Plain SVG by hand: it loads nothing, follows the reader's light or dark setting, and differs between two runs only where the
figures do. Each point and bar says its figures when pointed at.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path
from typing import Any

OTHER, OURS = "pyroscope-otel", "otel-profiling-distro"
CLASSES = {OTHER: "other", OURS: "ours"}
WIDTH = 920
MARGIN = 24

STYLE = """
text { font-family: system-ui, -apple-system, 'Segoe UI', Roboto, 'Noto Sans', 'DejaVu Sans', sans-serif; font-size: 12px }
.title { font-size: 16px; font-weight: 600 } .name { font-size: 13px; font-weight: 600 }
.start { text-anchor: start } .middle { text-anchor: middle } .end { text-anchor: end }
.line { fill: none; stroke-width: 2; stroke-linejoin: round } .other .line { stroke-dasharray: 5 3 }
.dot { stroke-width: 1.5 } .band { opacity: 0.18; stroke: none } .other .bar { opacity: 0.8 }
.whisker { stroke-width: 1.2; fill: none }
"""

COLOURS = """
.page {{ fill: {page}; stroke: {border} }} .grid {{ stroke: {grid} }} .axis {{ stroke: {axis} }}
text {{ fill: {quiet} }} .title, .name, .value {{ fill: {text} }} .whisker {{ stroke: {text} }}
.ours .line, .ours .dot {{ stroke: {ours} }} .ours .dot, .ours .band, .ours .bar {{ fill: {ours} }}
.other .line, .other .dot {{ stroke: {other} }} .other .band, .other .bar {{ fill: {other} }} .other .dot {{ fill: {page} }}
"""
"""By name, and not with CSS variables, which not every viewer of SVG knows."""

LIGHT = {"page": "#ffffff", "border": "#d0d7de", "grid": "#e4e8ec", "axis": "#8c959f", "quiet": "#59636e", "text": "#1f2328"}
LIGHT |= {"ours": "#0b62d6", "other": "#c2570c", "third": "#1a7f37"}
DARK = {"page": "#0d1117", "border": "#30363d", "grid": "#262c34", "axis": "#6e7681", "quiet": "#9198a1", "text": "#f0f6fc"}
DARK |= {"ours": "#58a6ff", "other": "#f0883e", "third": "#3fb950"}


class Picture:
    """An SVG that is written from top to bottom.

    Args:
        title: What a screen reader says first.
        description: What it says next: all that the picture shows.
        style: CSS besides `STYLE`.
        colours: CSS besides `COLOURS`, with the same names in braces.
    """

    def __init__(self, title: str, description: str, style: str = "", colours: str = "") -> None:
        self._title, self._description = title, description
        self._style, self._colours = STYLE + style, COLOURS + colours
        self._parts: list[str] = []

    def add(self, tag: str, content: str = "", **attributes: object) -> None:
        """Add an element. An underscore at the end of a name is dropped, one within is a hyphen; numbers are rounded."""
        self._parts.append(element(tag, content, **attributes))

    def text(self, x: float, y: float, text: str, kind: str = "start") -> None:
        """Add one line of text; `kind` are classes: how it is aligned, and what it is."""
        self.add("text", escape(text), x=x, y=y, class_=kind)

    def line(self, x1: float, y1: float, x2: float, y2: float, kind: str = "grid") -> None:
        """Add a straight line."""
        self.add("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=kind)

    def legend(self, y: float, mark: Callable[[float, float], str]) -> None:
        """Add the names of the two configurations, each behind what `mark` draws at a place."""
        for x, name in ((MARGIN, OURS), (MARGIN + 190, OTHER)):
            self.add("g", mark(x, y - 4), class_=CLASSES[name])
            self.text(x + 32, y, name, "start value")

    def save(self, path: Path, height: float) -> None:
        """Write the file."""
        opening = (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:g}" width="{WIDTH}" height="{height:g}" '
            'role="img" aria-labelledby="title description">'
        )
        dark = f"@media (prefers-color-scheme: dark) {{{self._colours.format(**DARK)}}}\n"
        head = [
            opening,
            element("title", escape(self._title), id="title"),
            element("desc", escape(self._description), id="description"),
            element("style", self._style + self._colours.format(**LIGHT) + dark),
            element("rect", x=0.5, y=0.5, width=WIDTH - 1, height=height - 1, rx=8, class_="page"),
        ]
        path.write_text("\n".join([*head, *self._parts, "</svg>"]) + "\n")


def element(tag: str, content: str = "", **attributes: object) -> str:
    """Return one element; see `Picture.add`."""
    pairs = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{f"{value:.1f}" if isinstance(value, float) else value}"'
        for name, value in attributes.items()
    )
    return f"<{tag}{pairs}>{content}</{tag}>" if content else f"<{tag}{pairs}/>"


COLUMNS = 4
PANEL_WIDTH, PANEL_HEIGHT = 186, 130
GAP_X, GAP_Y = 24, 58


def draw_accuracy(kept: dict[str, Any], path: Path) -> None:
    """Draw the share of right samples by the length of a step: a panel for each model, a line for each configuration."""
    figures = kept["figures"]
    models = list(dict.fromkeys(figure["model"] for figure in figures))
    steps = sorted({figure["step_ms"] for figure in figures})
    title = "Samples with the right span, by length of a step"
    picture = Picture(title, f"Python {kept['python']}: " + "; ".join(map(described, figures)))
    picture.text(MARGIN, 34, title, "start title")
    picture.legend(58, lambda x, y: element("path", d=f"M{x} {y}h24", class_="line") + dot(x + 12, y))
    picture.text(WIDTH - MARGIN, 58, f"8 handlers take turns; bands are 95 % intervals; Python {kept['python']}", "end")
    left, top = MARGIN + 36, 100
    for number, model in enumerate(models):
        x0, y0 = left + number % COLUMNS * (PANEL_WIDTH + GAP_X), top + number // COLUMNS * (PANEL_HEIGHT + GAP_Y)
        panel = [figure for figure in figures if figure["model"] == model]
        draw_panel(picture, x0, y0, steps, panel)
        picture.text(x0, y0 - 10, model, "start name")
        if number % COLUMNS == 0:
            for share in (0, 50, 100):
                picture.text(x0 - 6, y0 + PANEL_HEIGHT * (1 - share / 100) + 4, f"{share} %", "end")
    rows = math.ceil(len(models) / COLUMNS)
    bottom = top + rows * (PANEL_HEIGHT + GAP_Y)
    picture.text(WIDTH / 2, bottom - 12, "milliseconds of CPU time between two switches", "middle")
    picture.save(path, bottom + 8)


def draw_panel(picture: Picture, x0: float, y0: float, steps: Sequence[float], figures: list[dict[str, Any]]) -> None:
    """Draw one model's panel, with its upper left corner at (x0, y0)."""
    first, span = math.log(steps[0]), (math.log(steps[-1]) - math.log(steps[0])) or 1.0
    bottom = y0 + PANEL_HEIGHT

    def x_of(step: float) -> float:
        return x0 + 6 + (PANEL_WIDTH - 12) * (math.log(step) - first) / span

    def y_of(share: float) -> float:
        return bottom - PANEL_HEIGHT * share

    for share in (0.25, 0.5, 0.75, 1.0):
        picture.line(x0, y_of(share), x0 + PANEL_WIDTH, y_of(share))
    picture.line(x0, bottom, x0 + PANEL_WIDTH, bottom, "axis")
    for step in steps:
        picture.line(x_of(step), bottom, x_of(step), bottom + 4, "axis")
    first_power, last_power = math.ceil(math.log10(steps[0])), math.floor(math.log10(steps[-1]))
    for label in (10.0**power for power in range(first_power, last_power + 1)):
        picture.line(x_of(label), bottom, x_of(label), bottom + 6, "axis")
        picture.text(x_of(label), bottom + 17, f"{label:g}", "middle")
    for name in (OTHER, OURS):
        points = sorted((figure for figure in figures if figure["configuration"] == name), key=lambda point: point["step_ms"])
        if not points:
            continue
        places = [(x_of(point["step_ms"]), y_of(point["right"] / point["total"])) for point in points]
        edge = [(x_of(point["step_ms"]), y_of(point["high"])) for point in points]
        edge += [(x_of(point["step_ms"]), y_of(point["low"])) for point in reversed(points)]
        marks = [
            element("path", d=f"M{joined(edge)}Z", class_="band"),
            element("path", d=f"M{joined(places)}", class_="line"),
            *(dot(*place, described(point)) for place, point in zip(places, points, strict=True)),
        ]
        picture.add("g", "".join(marks), class_=CLASSES[name])


def dot(x: float, y: float, title: str = "") -> str:
    """Return a point of a line."""
    return element("circle", element("title", escape(title)) if title else "", cx=x, cy=y, r=3, class_="dot")


def joined(places: Sequence[tuple[float, float]]) -> str:
    """Return places as a path goes through them."""
    return "L".join(f"{x:.1f} {y:.1f}" for x, y in places)


def described(figure: dict[str, Any]) -> str:
    """Return what a point of the first picture says."""
    share = f"{figure['right'] / figure['total']:.1%} of {figure['total']} ({figure['low']:.1%} to {figure['high']:.1%})"
    return f"{figure['model']}, {figure['step_ms']:g} ms, {figure['configuration']}: {share}"


BAR, ROW = 13, 54
NAMES_WIDTH, VALUES_WIDTH = 312, 74


def draw_cost(kept: dict[str, Any], path: Path) -> None:
    """Draw what each configuration adds to the plain SDK: a row for each case, a bar for each configuration."""
    figures = kept["figures"]
    title = "CPU time added to the plain OpenTelemetry SDK"
    picture = Picture(title, f"Python {kept['python']}, microseconds: " + "; ".join(map(cost_described, figures)))
    picture.text(MARGIN, 34, title, "start title")
    picture.legend(58, lambda x, y: element("rect", x=x, y=y - 5, width=24, height=10, rx=2, class_="bar"))
    picture.text(WIDTH - MARGIN, 58, f"microseconds an operation; whiskers are 95 % intervals; Python {kept['python']}", "end")
    top, left, right = 84, MARGIN + NAMES_WIDTH, WIDTH - MARGIN - VALUES_WIDTH
    bounds = [figure[name][bound] for figure in figures for name in CLASSES for bound in ("low", "high")]
    low, high = min(0.0, *bounds), max(0.1, *bounds)

    def x_of(value: float) -> float:
        return left + (right - left) * (value - low) / (high - low)

    bottom = top + ROW * len(figures)
    for tick in ticks(low, high):
        picture.line(x_of(tick), top, x_of(tick), bottom, "axis" if tick == 0 else "grid")
        picture.text(x_of(tick), bottom + 17, signed(tick, "g") if tick else "0", "middle")
    for number, figure in enumerate(figures):
        y = top + ROW * number + ROW / 2
        picture.text(MARGIN, y - 2, str(figure["case"]), "start name")
        picture.text(MARGIN, y + 14, f"{figure['plain SDK']['value']:.2f} µs without profiling", "start")
        for name, offset in ((OURS, -BAR - 1.5), (OTHER, 1.5)):
            draw_bar(picture, figure[name], y + offset, x_of, CLASSES[name])
    picture.save(path, bottom + 34)


def draw_bar(picture: Picture, estimate: dict[str, float], y: float, x_of: Callable[[float], float], kind: str) -> None:
    """Draw one bar from zero, its interval and its value."""
    zero, end, low, high = x_of(0), *(x_of(estimate[key]) for key in ("value", "low", "high"))
    middle = y + BAR / 2
    whisker = f"M{low:.1f} {middle:.1f}H{high:.1f}M{low:.1f} {middle - 3:.1f}v6M{high:.1f} {middle - 3:.1f}v6"
    picture.add(
        "g",
        element("rect", x=min(zero, end), y=y, width=max(1.0, abs(end - zero)), height=BAR, rx=2, class_="bar")
        + element("path", d=whisker, class_="whisker"),
        class_=kind,
    )
    picture.text(max(zero, end, high) + 8, middle + 4, signed(estimate["value"], ".2f"), "start value")


def signed(value: float, digits: str) -> str:
    """Return a number with its sign, a minus that is as wide as the plus."""
    return f"{value:+{digits}}".replace("-", "\N{MINUS SIGN}")


def ticks(low: float, high: float) -> list[float]:
    """Return round values between two, five to ten of them."""
    rough = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = max(factor * power for factor in (1, 2, 5) if factor * power <= rough)
    return [round(number * step, 9) for number in range(math.ceil(low / step), math.floor(high / step) + 1)]


def cost_described(figure: dict[str, Any]) -> str:
    """Return what a row of the second picture says."""
    added = ", ".join(f"{name} adds {figure[name]['value']:.2f}" for name in CLASSES)
    return f"{figure['case']}: {figure['plain SDK']['value']:.2f}, {added}"


def main() -> None:
    """Draw what there are figures for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--accuracy", type=Path, help="what accuracy.py --json wrote")
    parser.add_argument("--cost", type=Path, help="what cost.py --json wrote")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent, help="folder of the pictures")
    arguments = parser.parse_args()
    if arguments.accuracy:
        draw_accuracy(json.loads(arguments.accuracy.read_text()), arguments.output / "accuracy.svg")
    if arguments.cost:
        draw_cost(json.loads(arguments.cost.read_text()), arguments.output / "cost.svg")


if __name__ == "__main__":
    main()
