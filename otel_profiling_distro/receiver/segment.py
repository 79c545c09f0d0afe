"""What arrived in one stretch of time, kept small and already added up in the ways that it is asked for.

An hour of a busy service has millions of samples. As objects they would fill the memory; as rows of numbers they take 28 bytes
each, and the sums that the page shows are there before somebody asks.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from .model import Profile, Sample
from .otlp import EncodedSpans, Source, SpanRecord
from .stacks import Stacks
from .sums import CPU, WALL, Group, Stretch, Sums, TracePart

_TIME = "nanoseconds"

_BYTES_OF_A_ROW = 28
_BYTES_OF_A_CONTEXT = 1_200
_BYTES_OF_A_GROUPED_STACK = 110
_BYTES_OF_A_CLOSED_STACK = 12
_BYTES_OF_A_SPAN = 800
_BYTES_OF_A_PROFILE = 400
"""About what each costs, tables and strings included; a span besides its own bytes. Measured on CPython 3.11."""


class Context(NamedTuple):
    """All that samples of the same work have in common but for the stack."""

    series: Mapping[str, str]
    labels: tuple[tuple[str, str], ...]
    type: str
    unit: str
    group: Group
    trace_id: str
    span_id: str


class Segment:
    """Samples and spans in the order of their arrival. Not thread-safe.

    Args:
        began: When its first data arrived, seconds since the epoch.
        stacks: The table that its samples' stacks are in; segments may share one.
    """

    def __init__(self, began: float, stacks: Stacks) -> None:
        self.began = began
        self.stacks = stacks
        self.size = 0
        """Bytes, about, without the stacks."""
        self.contexts: list[Context] = []
        self.contexts_by_id: dict[str, list[int]] = {}
        """Indices in `contexts`, by trace id and by span id."""
        self.groups: dict[Group, Sums] = {}
        self.stretches: list[Stretch] = []
        self.cpu_by_trace: Counter[str] = Counter()
        self.cpu_by_span: Counter[str] = Counter()
        """By the label ``span_id``."""
        self.spans: list[SpanRecord] = []
        self.sources: list[Source] = []
        self.traces: dict[str, TracePart] = {}
        self.owners: Counter[tuple[str, str]] = Counter()
        """How many spans own a profile, by service and name."""
        self._context_ids: dict[tuple[object, ...], int] = {}
        self._source_ids: dict[Source, int] = {}
        self._strings: dict[str, str] = {}
        # One row for each sample.
        self._row_contexts = array("I")
        self._row_nodes = array("I")
        self._row_values = array("q")
        self._row_counts = array("q")

    def add_profile(self, profile: Profile, received_ns: int) -> None:
        """Add the samples of a profile."""
        size = -len(self.contexts) * _BYTES_OF_A_CONTEXT
        values: Counter[Group] = Counter()
        series_key = tuple(sorted(profile.series.items()))
        for sample in profile.samples:
            number = self._context(sample, series_key)
            context = self.contexts[number]
            node = self.stacks.node(sample.stack)
            self._row_contexts.append(number)
            self._row_nodes.append(node)
            self._row_values.append(sample.value)
            self._row_counts.append(sample.count)
            sums = self.groups.get(context.group)
            if sums is None:
                sums = self.groups[context.group] = Sums(sample.unit)
            sums.value += sample.value
            sums.count += sample.count
            size -= len(sums.open_stacks) * _BYTES_OF_A_GROUPED_STACK
            sums.open_stacks[node] += sample.value
            size += len(sums.open_stacks) * _BYTES_OF_A_GROUPED_STACK
            values[context.group] += sample.value
            if context.group.kind == CPU:
                if context.trace_id:
                    self.cpu_by_trace[context.trace_id] += sample.value
                if context.span_id:
                    self.cpu_by_span[context.span_id] += sample.value
        end = profile.start_ns + profile.duration_ns if profile.start_ns > 0 and profile.duration_ns > 0 else received_ns
        self.stretches.append(Stretch(end - max(profile.duration_ns, 0), end, dict(values)))
        size += len(self.contexts) * _BYTES_OF_A_CONTEXT + len(profile.samples) * _BYTES_OF_A_ROW + _BYTES_OF_A_PROFILE
        self.size += size

    def _context(self, sample: Sample, series_key: tuple[tuple[str, str], ...]) -> int:
        key = (series_key, sample.labels, sample.type, sample.unit)
        number = self._context_ids.get(key)
        if number is None:
            kind = WALL if sample.series.get("clock") == WALL and sample.unit == _TIME else sample.type
            labels = tuple((self._kept(name), self._kept(value)) for name, value in sample.labels)
            first = dict(reversed(labels))
            group = Group(sample.series.get("service_name", ""), first.get("span_name"), kind)
            number = self._context_ids[series_key, labels, sample.type, sample.unit] = len(self.contexts)
            ids = first.get("trace_id", ""), first.get("span_id", "")
            self.contexts.append(Context(sample.series, labels, sample.type, sample.unit, group, *ids))
            for name in ids:
                if name:
                    self.contexts_by_id.setdefault(name, []).append(number)
        return number

    def _kept(self, text: str) -> str:
        # Each profile brings strings of its own; equal ones are kept once.
        return self._strings.setdefault(text, text)

    def add_spans(self, batches: list[EncodedSpans]) -> None:
        """Add exported spans."""
        for batch in batches:
            number = self._source_ids.get(batch.source)
            if number is None:
                number = self._source_ids[batch.source] = len(self.sources)
                self.sources.append(batch.source)
                self.size += 2 * len(batch.source.resource) + len(batch.source.scope)
            for span in batch.spans:
                span.source = number
                span.trace_id, span.name = self._kept(span.trace_id), self._kept(span.name)
                part = self.traces.get(span.trace_id)
                if part is None:
                    part = self.traces[span.trace_id] = TracePart(span.start_ns, span.end_ns, span)
                part.add(span, batch.source.service, len(self.spans))
                self.spans.append(span)
                if span.profile_id is not None:
                    self.owners[batch.source.service, span.name] += 1
                self.size += _BYTES_OF_A_SPAN + len(span.encoded)

    def close(self) -> None:
        """Take less memory from now on; nothing more is added."""
        self._context_ids.clear()
        self._source_ids.clear()
        self._strings.clear()
        for sums in self.groups.values():
            self.size -= (_BYTES_OF_A_GROUPED_STACK - _BYTES_OF_A_CLOSED_STACK) * sums.close(self.stacks)

    def rows(self) -> Iterator[tuple[Context, int, int, int]]:
        """Yield the context, node, value and count of each sample."""
        for number, node, value, count in zip(
            self._row_contexts, self._row_nodes, self._row_values, self._row_counts, strict=True
        ):
            yield self.contexts[number], node, value, count

    def stacks_of(self, wanted: set[int]) -> Counter[int]:
        """Return the value by node of the samples in the contexts `wanted`, which are indices in `contexts`."""
        result: Counter[int] = Counter()
        for number, node, value in zip(self._row_contexts, self._row_nodes, self._row_values, strict=True):
            if number in wanted:
                result[node] += value
        return result
