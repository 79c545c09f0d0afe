"""Adds up the samples of whatever was asked for into one tree of calls, to the nanosecond."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from otel_profiling_distro.receiver.model import Frame
from otel_profiling_distro.receiver.segment import Segment
from otel_profiling_distro.receiver.stacks import ROOT, Stacks
from otel_profiling_distro.receiver.store import Store
from otel_profiling_distro.receiver.sums import CPU, Group


@dataclass(frozen=True, slots=True)
class Selection:
    """Which samples; what is None does not matter."""

    service: str | None = None
    route: str | None = None
    outside: bool = False
    """Only work outside any span."""
    trace: str | None = None
    span: str | None = None
    """The label ``span_id``, which is the attribute ``pyroscope.profile.id`` of the span that owns the samples."""
    kind: str = CPU

    def holds(self, group: Group) -> bool:
        """Return whether samples of `group` may be among those that are meant."""
        return (
            group.kind == self.kind
            and (self.service is None or group.service == self.service)
            and (self.route is None or group.route == self.route)
            and not (self.outside and group.route is not None)
        )


@dataclass(slots=True)
class Tree:
    """Calls and what was spent in each, in parallel lists by node; node 0 is the root, callers come before what they call."""

    unit: str
    total: int
    frames: list[Frame]
    parents: list[int]
    frame_of: list[int]
    self_values: list[int]

    def plain(self) -> dict[str, Any]:
        """Return the tree as JSON has it."""
        return {
            "unit": self.unit,
            "total": self.total,
            "frames": [list(frame) for frame in self.frames],
            "parents": self.parents,
            "frame_of": self.frame_of,
            "self": self.self_values,
        }


def profile(store: Store, selection: Selection) -> Tree:
    """Return what the samples that are meant add up to."""
    parts: dict[int, tuple[Stacks, Counter[int]]] = {}
    unit = "nanoseconds"
    with store.lock:
        for segment in store.segments:
            values = parts.setdefault(id(segment.stacks), (segment.stacks, Counter()))[1]
            if selection.trace is None and selection.span is None:
                for group, sums in segment.groups.items():
                    if selection.holds(group):
                        for node, value in sums.stacks():
                            values[node] += value
                        unit = sums.unit
            elif wanted := _contexts(segment, selection):
                values.update(segment.stacks_of(wanted))
                unit = segment.contexts[min(wanted)].unit
        return _tree(list(parts.values()), unit)


def _contexts(segment: Segment, selection: Selection) -> set[int]:
    known = segment.contexts_by_id.get(selection.span or selection.trace or "", ())
    return {
        number
        for number in known
        if (context := segment.contexts[number])
        and (selection.trace is None or context.trace_id == selection.trace)
        and (selection.span is None or context.span_id == selection.span)
        and selection.holds(context.group)
    }


def _tree(parts: list[tuple[Stacks, Counter[int]]], unit: str) -> Tree:
    tree = Tree(unit, 0, [], [-1], [-1], [0])
    frame_ids: dict[Frame, int] = {}
    children: dict[tuple[int, int], int] = {}
    for stacks, values in parts:
        places = {ROOT: 0}
        for node in _with_callers(stacks, values):
            frame = stacks.frames[stacks.frame_of[node]]
            frame_id = frame_ids.get(frame)
            if frame_id is None:
                frame_id = frame_ids[frame] = len(tree.frames)
                tree.frames.append(frame)
            step = (places[stacks.parents[node]], frame_id)
            place = children.get(step)
            if place is None:
                place = children[step] = len(tree.parents)
                tree.parents.append(step[0])
                tree.frame_of.append(frame_id)
                tree.self_values.append(0)
            places[node] = place
        for node, value in values.items():
            tree.self_values[places[node]] += value
            tree.total += value
    return tree


def _with_callers(stacks: Stacks, values: Counter[int]) -> list[int]:
    """Return the nodes that have a value and all above them, callers first, without the root."""
    seen = {ROOT}
    for node in values:
        above = node
        while above not in seen:
            seen.add(above)
            above = stacks.parents[above]
    seen.discard(ROOT)
    return sorted(seen)
