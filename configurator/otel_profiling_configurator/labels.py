"""What a span's samples are labelled with, decided without touching anything.

The rules are those of Grafana's otel-profiling-go (local root spans, scopes) and of Pyroscope's storage: ``span_id`` and
``trace_id`` are kept beside the series, ``span_name`` becomes part of it, and a value beyond the server's limit costs the
whole upload.
"""

from __future__ import annotations

import weakref

from .scope import Scope

TRACE_ID = "trace_id"
SPAN_ID = "span_id"
SPAN_NAME = "span_name"

PROFILE_ID_ATTRIBUTE = "pyroscope.profile.id"
"""Span attribute by which Grafana selects the profile of a span; its value is that of the label ``span_id``."""

MAX_VALUE_BYTES = 1024
"""Longest label value that we send, in bytes of UTF-8. Pyroscope rejects an upload with one above 2048 by default."""

Pairs = tuple[tuple[str, str], ...]
"""Labels as they are written on a thread: (name, value) pairs, no name twice."""

NO_LABELS: Pairs = ()


def label_value(text: object) -> str:
    """Return `text` as a label value: encodable as UTF-8 and at most `MAX_VALUE_BYTES` long."""
    value = text if type(text) is str else str(text)
    if value.isascii():
        return value[:MAX_VALUE_BYTES]
    # "replace" for lone surrogates on the way in, "ignore" for a character cut in half by the limit.
    return value.encode("utf-8", "replace")[:MAX_VALUE_BYTES].decode("utf-8", "ignore")


class SpanLabels:
    """The labels of one span, or of a local root span and all descendants that label nothing of their own.

    `pairs` is replaced, never changed, when a label changes: whoever wrote it on a thread can tell by identity that it is
    out of date, and still knows exactly what to remove.
    """

    __slots__ = (
        "__weakref__",
        "_inheritors",
        "name",
        "name_scope",
        "owner",
        "pairs",
        "root",
        "sampled",
        "span_id",
        "trace_id",
    )

    def __init__(
        self,
        trace_id: str,
        span_id: str,
        name: str,
        sampled: int,
        id_scope: Scope,
        name_scope: Scope,
        parent: SpanLabels | None = None,
    ) -> None:
        """Decide the labels of a span.

        Args:
            trace_id: 32 lower-case hex digits.
            span_id: 16 lower-case hex digits: the span's own id, whether it becomes a label or not.
            name: The span's name as a label value.
            sampled: The sampled trace flag. A span that is not exported gets no ids: they would lead nowhere.
            id_scope: Which spans own a ``span_id``.
            name_scope: Which spans own a ``span_name``.
            parent: The labels of the parent if we started it; None makes this span a local root.
        """
        self.owner = span_id
        """Id of the span these labels were made for; descendants may hold them too."""
        self.root: SpanLabels = self if parent is None else parent.root
        self.sampled = sampled
        self.name = name
        self.name_scope = name_scope
        self._inheritors: weakref.WeakSet[SpanLabels] | None = None
        self.span_id = ""
        """Value of the label ``span_id``, empty for none."""
        self.trace_id = trace_id if sampled else ""
        if sampled:
            if id_scope is Scope.ALL or (id_scope is Scope.ROOT and parent is None):
                self.span_id = span_id
            elif id_scope is Scope.ROOT:
                self.span_id = self.root.span_id
        if parent is not None and name_scope is Scope.ROOT:
            # Only where a descendant has labels of its own beside the root's name: not in the default configuration.
            if self.root._inheritors is None:
                self.root._inheritors = weakref.WeakSet()
            self.root._inheritors.add(self)
        self.pairs: Pairs = NO_LABELS
        self._decide()

    def rename(self, name: str) -> None:
        """Follow a new name of the span these labels were made for."""
        self.name = name
        self._decide()
        for inheritor in tuple(self._inheritors or ()):
            inheritor._decide()

    def _decide(self) -> None:
        pairs = []
        if self.trace_id:
            pairs.append((TRACE_ID, self.trace_id))
        if self.span_id:
            pairs.append((SPAN_ID, self.span_id))
        if self.name_scope is not Scope.NONE:
            name = self.root.name if self.name_scope is Scope.ROOT else self.name
            if name:
                pairs.append((SPAN_NAME, name))
        self.pairs = tuple(pairs)
