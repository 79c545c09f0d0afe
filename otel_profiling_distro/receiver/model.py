"""What the receiver hands out: samples, spans and pushes, as plain values that tests and reports can compare."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

PROFILE_ID = "pyroscope.profile.id"
"""Attribute of a span that owns a profile: the ``span_id`` label of its samples."""


class Frame(NamedTuple):
    """One line of a sample's stack. A tuple, since stacks are looked up by their frames for each sample that comes in."""

    function: str
    filename: str
    line: int


@dataclass(frozen=True, slots=True)
class Sample:
    """One sample of a profile: a stack, its labels and what it weighs.

    The agent adds up samples with the same stack and labels before it sends them, so that one `Sample` may stand for
    `count` readings of the stack.
    """

    series: Mapping[str, str]
    """Labels of the whole profile: ``__name__``, ``service_name``, static tags."""
    labels: tuple[tuple[str, str], ...]
    """Labels of this sample as they arrived: in order, duplicates kept."""
    stack: tuple[Frame, ...]
    """Leaf first."""
    value: int
    """In `unit`."""
    unit: str
    type: str
    """What `value` measures, such as ``cpu``. A profile with several types gives a `Sample` for each non-zero value."""
    count: int
    """Number of readings that `value` stands for, at least 1."""

    def label(self, name: str) -> str | None:
        """Return the first value of the label `name`, None where the sample has none."""
        return next((value for key, value in self.labels if key == name), None)


@dataclass(frozen=True, slots=True)
class Profile:
    """What one process measured in one stretch of time."""

    start_ns: int
    """Since the epoch; 0 where the sender does not say."""
    duration_ns: int
    series: Mapping[str, str]
    samples: list[Sample]


@dataclass(frozen=True, slots=True)
class Span:
    """One finished span. Ids are lower-case hex, times nanoseconds since the epoch."""

    trace_id: str
    span_id: str
    parent_span_id: str
    """Empty for the root of a trace."""
    name: str
    kind: int
    """As in OTLP: 1 internal, 2 server, 3 client, 4 producer, 5 consumer."""
    start_ns: int
    end_ns: int
    attributes: Mapping[str, Any]
    resource: Mapping[str, Any]

    @property
    def profile_id(self) -> str | None:
        """What the ``span_id`` label of its samples is; None where it owns no profile."""
        value = self.attributes.get(PROFILE_ID)
        return str(value) if value else None


@dataclass(frozen=True, slots=True)
class Push:
    """One request to Pyroscope's push API, also where the receiver was told to refuse it."""

    received: float
    """Seconds since the epoch."""
    headers: Mapping[str, str]
    """Keys in lower case."""
    series: tuple[Mapping[str, str], ...]
    """Labels of each series in the request."""
    status: int
    """What the receiver answered."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """An upload that was answered with an error."""

    status: int
    words: str
    """What the answer said, as the sender may show it."""
