"""Draws ``docs/sample-way.svg``: how one sample finds its labels although the thread has switched meanwhile.

Time runs from left to right, and each line is somebody who does something. The numbers are those of the steps in
``docs/how-it-works.md``.
"""

from __future__ import annotations

import sys
from pathlib import Path

from bench_picture import MARGIN, WIDTH, Picture

STYLE = """
.step, .figure { font-weight: 600 } .box { stroke-width: 1.5; fill-opacity: 0.16 } .lane { stroke-dasharray: 2 4 }
.arrow { fill: none; stroke-width: 1.8 } .wrong .arrow { stroke-dasharray: 5 4 } .small { font-size: 11px }
"""

COLOURS = """
.a .box {{ fill: {ours}; stroke: {ours} }} .b .box {{ fill: {other}; stroke: {other} }}
.c .box {{ fill: {third}; stroke: {third} }} .plain .box {{ fill: {quiet}; stroke: {axis}; fill-opacity: 0.08 }}
.ours .arrow {{ stroke: {ours} }} .wrong .arrow {{ stroke: {other} }} .quiet .arrow {{ stroke: {axis} }}
.ours .head {{ fill: {ours} }} .wrong .head {{ fill: {other} }} .quiet .head {{ fill: {axis} }}
.under, .figure {{ fill: {page} }} .step, .number {{ fill: {text} }}
"""

LEFT, RIGHT = 196, WIDTH - MARGIN
TURNS = (("a", "GET /a", LEFT, 424), ("b", "GET /b", 424, 640), ("a", "GET /a", 640, 752), ("c", "GET /c", 752, RIGHT))
"""Whose turn it is on the thread, from where to where."""
ALIASES = {"a": "alias 1", "b": "alias 2", "c": "alias 3"}

THREAD, RECORD, SAMPLER, RECORDER, PYROSCOPE = 74, 142, 214, 290, 366
"""Upper edges of the lanes."""
HEIGHT = 34


def main(path: Path) -> None:
    """Draw it."""
    picture = Picture(
        "One sample's way",
        "On one thread, GET /a, GET /b, GET /a and GET /c take turns. The thread context record says alias 1, alias 2, alias 1 "
        "and alias 3. During the first GET /a the agent's sampler copies the thread's state, in which alias 1 takes the place "
        "of the thread's id, and reads the stack. It is recorded during GET /b: alias 1 leads to the labels of GET /a, where "
        "the thread's id would have led to those of GET /b. Every 10 seconds samples are sent to Pyroscope.",
        STYLE,
        COLOURS,
    )
    picture.text(MARGIN, 34, "One sample's way", "start title")
    picture.text(RIGHT, 34, "time, a millisecond or so, from left to right", "end")
    for y, name, whose in (
        (THREAD, "Your thread", "runs spans in turn"),
        (RECORD, "Thread context record", "native module"),
        (SAMPLER, "Sampler", "thread of the agent"),
        (RECORDER, "Recorder", "thread of the agent"),
        (PYROSCOPE, "Pyroscope", ""),
    ):
        picture.text(MARGIN, y + 15, name, "start name")
        picture.text(MARGIN, y + 30, whose, "start small")
        picture.line(LEFT, y + HEIGHT / 2, RIGHT, y + HEIGHT / 2, "grid lane")
    arrow(picture, "wrong", 604, RECORDER, 604, THREAD + HEIGHT)  # behind the boxes that it passes
    for kind, span, start, end in TURNS:
        box(picture, kind, start + 1, THREAD, end - start - 2, span)
        box(picture, kind, start + 1, RECORD, end - start - 2, ALIASES[kind])
    box(picture, "a", 262, SAMPLER, 226, "state: id = alias 1; then stack")
    box(picture, "a", 520, RECORDER, 196, "labels of alias 1: GET /a")
    box(picture, "plain", 740, PYROSCOPE, RIGHT - 740, "every 10 s")
    arrow(picture, "quiet", 424, THREAD + HEIGHT, 424, RECORD)
    arrow(picture, "ours", 290, RECORD + HEIGHT, 290, SAMPLER)
    arrow(picture, "ours", 488, SAMPLER + HEIGHT / 2, 560, RECORDER, bend=True)
    arrow(picture, "quiet", 716, RECORDER + HEIGHT / 2, 800, PYROSCOPE, bend=True)
    picture.text(612, SAMPLER + 14, "by thread id it would be", "start small")
    picture.text(612, SAMPLER + 28, "whose turn it is now: GET /b", "start small")
    for number, x, y in (
        (1, LEFT + 16, THREAD + HEIGHT / 2),
        (2, 442, RECORD - 18),
        (3, 274, SAMPLER - 19),
        (4, 520, SAMPLER + 8),
        (5, 776, RECORDER + 8),
    ):
        mark(picture, number, x, y)
    picture.save(path, PYROSCOPE + HEIGHT + MARGIN)


def box(picture: Picture, kind: str, x: float, y: float, width: float, text: str) -> None:
    """Draw a box with a text in its middle; `kind` is its colour."""
    place = f'x="{x:g}" y="{y:g}" width="{width:g}" height="{HEIGHT}" rx="5"'
    picture.add("g", f'<rect {place} class="under"/><rect {place} class="box"/>', class_=kind)
    picture.text(x + width / 2, y + HEIGHT / 2 + 4, text, "middle step")


def arrow(picture: Picture, kind: str, x1: float, y1: float, x2: float, y2: float, *, bend: bool = False) -> None:
    """Draw an arrow: straight up or down, or with `bend` first to the right and then down."""
    down = 1 if y2 > y1 else -1
    line = f"M{x1:g} {y1:g}" + (f"H{x2:g}" if bend else "") + f"V{y2 - 7 * down:g}"
    head = f"M{x2:g} {y2:g}l-4.5 {-8 * down}h9Z"
    picture.add("g", f'<path d="{line}" class="arrow"/><path d="{head}" class="head"/>', class_=kind)


def mark(picture: Picture, number: int, x: float, y: float) -> None:
    """Draw a step's number in a circle."""
    picture.add("circle", cx=float(x), cy=float(y), r=9, class_="number")
    picture.text(x, y + 4, str(number), "middle figure")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if sys.argv[1:] else Path(__file__).with_name("sample-way.svg"))
