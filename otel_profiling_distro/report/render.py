"""Shows a report in a terminal, or as plain text where there is none."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from rich import box
from rich.bar import Bar
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.measure import Measurement
from rich.padding import Padding
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from ..printable import printable
from .model import HotFunction, Report, Route, Trace, TraceSpan

_SHARE_WIDTH = 12
_TIMELINE_WIDTH = 32
_WIDTH_FOR_ALL = 100
"""From this on tables have all their columns."""
_WIDTH_BESIDE_ROUTES = 56
"""Of the other columns, some 24 of them for the hottest functions."""
_SHORTEST_ROUTE = 12
_NOTABLE = 0.02
"""Share from which on a function is worth a line in the table of routes."""
_MILLISECOND, _SECOND = 1e6, 1e9
_OUTSIDE = "outside any span"


def render(report: Report, service: str) -> RenderableType:
    """Return `report` on the service `service` for a rich console."""
    parts: list[RenderableType] = [Rule(Text(printable(service), "bold"), style="cyan"), _totals(report)]
    if report.routes:
        parts += [_ByWidth(lambda width: [_route_table(report.routes, width)]), _links(report)]
    if report.trace is not None:
        trace = report.trace
        parts += ["", Rule(_trace_title(trace), style="cyan"), "", _ByWidth(lambda width: _trace(trace, width))]
    return Group(*parts)


def _totals(report: Report) -> Text:
    return Text.assemble(
        (_time(report.cpu_ns), "bold"),
        f" of CPU time in {_many(report.samples, 'sample')}, ",
        f"{_many(report.spans, 'span')} in {_many(report.traces, 'trace')}",
        justify="center",
    )


class _ByWidth:
    """What depends on how much room there is: where there is little, what can be done without is left out.

    Args:
        draw: Given the columns that there are.
    """

    def __init__(self, draw: Callable[[int], Iterable[RenderableType]]) -> None:
        self.draw = draw

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield from self.draw(options.max_width)


def _route_table(routes: tuple[Route, ...], width: int) -> Table:
    wide = width >= _WIDTH_FOR_ALL
    longest = None if wide else max(width - _WIDTH_BESIDE_ROUTES, _SHORTEST_ROUTE)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, expand=True, header_style="bold")
    table.add_column("route (span_name)" if wide else "route", max_width=longest, overflow="fold")
    table.add_column("CPU", justify="right", no_wrap=True)
    table.add_column("share", justify="right", no_wrap=True)
    if wide:
        table.add_column("", width=_SHARE_WIDTH)
        table.add_column("spans", justify="right", no_wrap=True)
    table.add_column("CPU/span", justify="right", no_wrap=True)
    table.add_column("hottest functions", ratio=1, no_wrap=True)
    most = max(route.share for route in routes)
    for route in routes:
        outside = route.name is None
        per_span = route.cpu_per_span_ns
        bar = _Stretch(0, route.share, most or 1, _SHARE_WIDTH, "bright_black" if outside else "green")
        table.add_row(
            Text(_OUTSIDE if route.name is None else printable(route.name), "italic" if outside else "bold"),
            _time(route.cpu_ns),
            f"{route.share:.1%}",
            *((bar, "" if outside else f"{route.spans:,}") if wide else ()),
            "" if per_span is None else _time(per_span),
            _functions_by_line(route.hottest),
            style="dim" if outside else "",
        )
    return table


def _functions_by_line(hottest: tuple[HotFunction, ...]) -> Text:
    return Text("\n").join(
        Text.assemble((f"{hot.share:>4.0%} ", "cyan"), printable(hot.function)) for hot in hottest if hot.share >= _NOTABLE
    )


def _links(report: Report) -> Text:
    in_spans = report.samples_in_spans / report.samples if report.samples else 0.0
    complete = report.profile_ids_exported == report.profile_ids
    return Text.assemble(
        (f"{in_spans:.1%}", "bold green"),
        " of the samples carry a span; ",
        (f"{report.profile_ids_exported:,} of {report.profile_ids:,}", "bold green" if complete else "bold red"),
        " span ids on them belong to an exported span.",
    )


def _trace_title(trace: Trace) -> Text:
    return Text.assemble("trace ", (trace.trace_id, "bold"))


def _trace(trace: Trace, width: int) -> Iterator[RenderableType]:
    wide = width >= _WIDTH_FOR_ALL  # the ids of profiles come once more below
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("span")
    table.add_column("duration", justify="right", no_wrap=True)
    table.add_column("", width=_TIMELINE_WIDTH)
    table.add_column("CPU", justify="right", no_wrap=True)
    if wide:
        table.add_column("pyroscope.profile.id", no_wrap=True)
    for guides, span in _outline(trace.roots):
        owner = span.profile_id is not None
        table.add_row(
            Text.assemble((guides, "bright_black"), (printable(span.name), "bold" if owner else "")),
            _time(span.duration_ns),
            _Stretch(span.offset_ns, span.offset_ns + span.duration_ns, trace.duration_ns or 1, _TIMELINE_WIDTH, "blue"),
            _time(span.cpu_ns) if owner else "",
            *((Text(printable(span.profile_id or ""), "magenta"),) if wide else ()),
        )
    yield table
    for _, span in _outline(trace.roots):
        if span.hottest:
            yield ""
            yield Text.assemble("profile ", (printable(span.profile_id or ""), "magenta"), ", ", (printable(span.name), "bold"))
            yield Padding(_function_table(span.hottest), (0, 0, 0, 2))


def _outline(spans: tuple[TraceSpan, ...], guides: str = "", depth: int = 0) -> Iterator[tuple[str, TraceSpan]]:
    """Yield each span of the trees in order, with the lines that lead to it."""
    for span in spans:
        last = span is spans[-1]
        own, below = ("", "") if depth == 0 else ("└─ ", "   ") if last else ("├─ ", "│  ")
        yield guides + own, span
        yield from _outline(span.children, guides + below, depth + 1)


def _function_table(hottest: tuple[HotFunction, ...]) -> Table:
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(width=_SHARE_WIDTH)
    table.add_column()
    for hot in hottest:
        table.add_row(
            _time(hot.cpu_ns),
            f"{hot.share:.0%}",
            _Stretch(0, hot.share, 1, _SHARE_WIDTH, "green"),
            Text.assemble(printable(hot.function), (f"  {printable(hot.filename)}", "dim")),
        )
    return table


class _Stretch:
    """A horizontal bar from `begin` to `end` of `size`, never so short that nothing is seen of it.

    `rich.bar.Bar` draws with block elements, which a console limited to ASCII can't show: there it is made of hashes.
    """

    def __init__(self, begin: float, end: float, size: float, width: int, colour: str) -> None:
        self.width = width
        self.colour = colour
        # In eighths of a character, as finely as block elements divide it.
        cells = width * 8
        self.begin = min(round(begin / size * cells), cells - 1)
        self.end = min(max(round(end / size * cells), self.begin + 1), cells)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if options.ascii_only:
            first, after = self.begin // 8, -(-self.end // 8)
            yield Text(" " * first + "#" * (after - first), self.colour)
        else:
            yield Bar(self.width * 8, self.begin, self.end, width=self.width, color=self.colour)

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement(self.width, self.width)


def _time(nanoseconds: float) -> str:
    """Return a duration in the unit that keeps it short, to about three digits."""
    if not nanoseconds:
        return "0"
    if nanoseconds < _MILLISECOND:
        return f"{nanoseconds / 1e3:.0f} µs"
    if nanoseconds < _SECOND:
        milliseconds = nanoseconds / _MILLISECOND
        return f"{milliseconds:.1f} ms" if milliseconds < 100 else f"{milliseconds:.0f} ms"  # noqa: PLR2004
    return f"{nanoseconds / _SECOND:.2f} s"


def _many(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
