"""Keeps what arrived, in memory, within bounds of age and size: what came first goes first."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from .model import Profile, Sample, Span
from .otlp import EncodedSpans, SpanRecord, whole_span
from .segment import Segment
from .stacks import Stacks

_SEGMENTS = 60
"""Into so many parts the bounds are divided: a sixtieth of what is kept goes at a time."""

_STACKS_SHARE = 4
"""A table of stacks that fills this part of the bound (a quarter) is left to the data that uses it, and goes with it."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much is kept.

    Args:
        seconds: Age from which on data goes; None keeps it for ever.
        size: Bytes, about; None keeps everything.
    """

    seconds: float | None = None
    size: int | None = None


class Store:
    """Samples and spans, in segments, the oldest first. Thread-safe; whoever reads `segments` holds `lock`.

    Args:
        bounds: How much is kept; by default everything.
        clock: Returns the time in seconds since the epoch.
    """

    def __init__(self, bounds: Bounds | None = None, clock: Callable[[], float] = time.time) -> None:
        self.lock = threading.RLock()
        self.segments: deque[Segment] = deque()
        self.generation = 0
        """Another number whenever something has changed."""
        self.dropped = 0
        """How many segments have gone, because they were too old or too much."""
        self._bounds = bounds or Bounds()
        self._clock = clock
        self._stacks = Stacks()

    @property
    def size(self) -> int:
        """Bytes, about."""
        with self.lock:
            tables = {id(segment.stacks): segment.stacks.size for segment in self.segments}
            return sum(segment.size for segment in self.segments) + sum(tables.values())

    def add_profiles(self, profiles: list[Profile]) -> None:
        """Keep profiles that have arrived now."""
        with self.lock:
            now = self._clock()
            segment = self._current(now)
            for profile in profiles:
                segment.add_profile(profile, int(now * 1e9))
            self._forget(now)

    def add_spans(self, batches: list[EncodedSpans]) -> None:
        """Keep spans that have arrived now."""
        with self.lock:
            now = self._clock()
            self._current(now).add_spans(batches)
            self._forget(now)

    def expire(self) -> None:
        """Drop what has become too old; also done whenever something arrives."""
        with self.lock:
            self._forget(self._clock(), changed=False)

    def _current(self, now: float) -> Segment:
        seconds, size = self._bounds.seconds, self._bounds.size
        if self.segments:
            last = self.segments[-1]
            fresh = seconds is None or now - last.began < seconds / _SEGMENTS
            small = size is None or last.size < size / _SEGMENTS
            if fresh and small:
                return last
            last.close()
        if size is not None and self._stacks.size > size / _STACKS_SHARE:
            self._stacks = Stacks()
        segment = Segment(now, self._stacks)
        self.segments.append(segment)
        return segment

    def _forget(self, now: float, *, changed: bool = True) -> None:
        before = self.dropped
        if (seconds := self._bounds.seconds) is not None:
            while self.segments and self.segments[0].began < now - seconds:
                self._drop()
        if (size := self._bounds.size) is not None:
            while len(self.segments) > 1 and self.size > size:
                self._drop()
        if changed or self.dropped != before:
            self.generation += 1

    def _drop(self) -> None:
        self.segments.popleft()
        self.dropped += 1

    def each_sample(self, service: str | None = None) -> Iterator[Sample]:
        """Yield the samples that are kept, of one service or of all; those that come meanwhile may be left out."""
        with self.lock:
            segments = list(self.segments)
        for segment in segments:
            with self.lock:
                rows = [row for row in segment.rows() if service is None or row[0].group.service == service]
                stacks = {node: segment.stacks.stack(node) for node in {row[1] for row in rows}}
            for context, node, value, count in rows:
                yield Sample(context.series, context.labels, stacks[node], value, context.unit, context.type, count)

    def samples(self, service: str | None = None) -> list[Sample]:
        """Return the samples that are kept, of one service or of all."""
        return list(self.each_sample(service))

    def spans(self, service: str | None = None) -> list[Span]:
        """Return the spans that are kept, of one service or of all."""
        with self.lock:
            kept = [
                (span, segment.sources[span.source])
                for segment in self.segments
                for span in segment.spans
                if service is None or segment.sources[span.source].service == service
            ]
        return [whole_span(span, source) for span, source in kept]

    def span_records(self, service: str) -> list[SpanRecord]:
        """Return the spans that are kept of a service, as they are kept."""
        with self.lock:
            return [
                span for segment in self.segments for span in segment.spans if segment.sources[span.source].service == service
            ]

    def services(self) -> list[str]:
        """Return the names of all services of which something is kept, in order; empty for samples or spans without one."""
        with self.lock:
            sampled = {group.service for segment in self.segments for group in segment.groups}
            return sorted(sampled.union(source.service for segment in self.segments for source in segment.sources))

    def counts(self) -> Counter[str]:
        """Return how many ``samples``, ``spans`` and ``traces`` are kept."""
        result: Counter[str] = Counter()
        traces: set[str] = set()
        with self.lock:
            for segment in self.segments:
                result["samples"] += sum(sums.count for sums in segment.groups.values())
                result["spans"] += len(segment.spans)
                traces.update(segment.traces)
        result["traces"] = len(traces)
        return result
