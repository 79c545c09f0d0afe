"""The sums that a segment keeps ready: by service and route, by trace, and over time."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from .otlp import SpanRecord
from .stacks import ROOT, Stacks

CPU = "cpu"
WALL = "wall"


class Group(NamedTuple):
    """What samples are added up by."""

    service: str
    route: str | None
    """The label ``span_name``: None for work outside any span."""
    kind: str
    """``cpu``, ``wall``, or any other type that a profile may have, such as ``alloc_space``."""


@dataclass(slots=True)
class Sums:
    """What the samples of a group add up to."""

    unit: str
    value: int = 0
    count: int = 0
    open_stacks: Counter[int] = field(default_factory=Counter)
    """Value by node of the segment's stacks, as long as the segment takes samples; then it is in the arrays below."""
    nodes: array[int] = field(default_factory=lambda: array("I"))
    values: array[int] = field(default_factory=lambda: array("q"))
    closed_frames: Counter[int] = field(default_factory=Counter)
    """Value by the frame of the leaf, of the stacks in the arrays; -1 is the empty stack's."""

    def stacks(self) -> Iterable[tuple[int, int]]:
        """Return node and value of each stack."""
        return self.open_stacks.items() if self.open_stacks else zip(self.nodes, self.values, strict=True)

    def frames(self, stacks: Stacks) -> Counter[int]:
        """Return the value by the frame of the leaf, an index in the frames of `stacks`; -1 for the empty stack."""
        if not self.open_stacks:
            return self.closed_frames
        result: Counter[int] = Counter()
        for node, value in self.open_stacks.items():
            result[stacks.frame_of[node] if node != ROOT else -1] += value
        return result

    def close(self, stacks: Stacks) -> int:
        """Take a tenth of the memory from now on, and no more samples; return how many stacks there are."""
        self.closed_frames = self.frames(stacks)
        self.nodes.extend(self.open_stacks.keys())
        self.values.extend(self.open_stacks.values())
        self.open_stacks.clear()
        return len(self.nodes)


@dataclass(slots=True)
class TracePart:
    """What a segment has of a trace."""

    start_ns: int
    end_ns: int
    first: SpanRecord
    """The root, or else the earliest span."""
    failed: bool = False
    services: set[str] = field(default_factory=set)
    spans: list[int] = field(default_factory=list)
    """Indices in the segment's `spans`."""

    def add(self, span: SpanRecord, service: str, index: int) -> None:
        """Count a span in."""
        self.services.add(service)
        self.spans.append(index)
        self.start_ns = min(self.start_ns, span.start_ns)
        self.end_ns = max(self.end_ns, span.end_ns)
        self.failed = self.failed or span.failed
        if rank(span) < rank(self.first):
            self.first = span


def rank(span: SpanRecord) -> tuple[bool, int]:
    """Return by what the span is found that a trace is called by, the least: roots before others, then by time."""
    return bool(span.parent_span_id), span.start_ns


class Stretch(NamedTuple):
    """What one profile says of each group, for a picture over time."""

    start_ns: int
    end_ns: int
    values: dict[Group, int]
