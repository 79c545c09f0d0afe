"""What a span's samples are labelled with, decided without touching anything.

The rules are those of Grafana's otel-profiling-go (local root spans, scopes) and of Pyroscope's storage: ``span_id`` and
``trace_id`` are kept beside the series, ``span_name`` becomes part of it, and a value beyond the server's limit costs the
whole upload.
"""

from __future__ import annotations

import weakref

from opentelemetry.trace import SpanContext

from .scope import Scope

TRACE_ID = "trace_id"
SPAN_ID = "span_id"
SPAN_NAME = "span_name"

PROFILE_ID_ATTRIBUTE = "pyroscope.profile.id"
"""Span attribute by which Grafana selects the profile of a span; its value is that of the label ``span_id``."""

MAX_VALUE_BYTES = 1024
"""Longest label value that we send, in bytes of UTF-8. Pyroscope rejects an upload with one above 2048 by default."""

_SAMPLED = 0x01
"""The sampled bit of W3C trace flags. A span without it is not exported, so no id may lead to it."""

_SHORT, _FEW = 200, 1000
"""Length and number of the span names that are remembered: what a rule that made names of ids could cost in memory."""

Pairs = tuple[tuple[str, str], ...]
"""Labels as they are written on a thread: (name, value) pairs, no name twice."""

NO_LABELS: Pairs = ()


def label_value(text: object) -> str:
    """Return `text` as a label value: encodable as UTF-8 and at most `MAX_VALUE_BYTES` long."""
    value = text if type(text) is str else str(text)
    if len(value) <= MAX_VALUE_BYTES and value.isascii():
        return value
    # "replace" for lone surrogates on the way in, "ignore" for a character cut in half by the limit.
    return value.encode("utf-8", "replace")[:MAX_VALUE_BYTES].decode("utf-8", "ignore")


class SpanLabels:
    """The labels of one span, or of a local root span and all descendants that label nothing of their own.

    `pairs` is replaced, never changed, when a label changes: whoever wrote it on a thread can tell by identity that it is
    out of date, and still knows exactly what to remove.
    """

    # Three of the slots stay empty where they have nothing to say: every root span pays for what is set.
    keeps_name: bool
    __slots__ = ("__weakref__", "_inheritors", "keeps_name", "owner", "pairs", "profile_id", "root", "sampled")

    def __init__(self, owner: int, sampled: bool, pairs: Pairs, profile_id: str = "", root: SpanLabels | None = None) -> None:
        """Hold the labels of a span.

        Args:
            owner: Id of the span they are made for; descendants may hold them too.
            sampled: Whether the span is; a descendant of which the opposite is true has labels of its own.
            pairs: The labels to begin with.
            profile_id: The owner's id as 16 lower-case hex digits, if it owns a ``span_id`` label.
            root: Those of the local root span, where these are not its own (itself would be a reference cycle).
        """
        self.owner = owner
        self.sampled = sampled
        self.pairs = pairs
        self.profile_id = profile_id
        if root is not None:
            self.root = root

    def get(self, key: str) -> str:
        """Return the value of the label `key`, empty for none."""
        return dict(self.pairs).get(key, "")

    def rename(self, name: str) -> None:
        """Follow a new name of the span these labels were made for, if it is that span's name that they have."""
        if not hasattr(self, "keeps_name"):
            for labels in (self, *getattr(self, "_inheritors", ())):
                labels.pairs = (*(pair for pair in labels.pairs if pair[0] != SPAN_NAME), *_pair(SPAN_NAME, name))

    def inherit(self, labels: SpanLabels) -> None:
        """Have `labels`, a descendant's, follow the name of these instead of their own span's."""
        labels.keeps_name = True
        if not hasattr(self, "_inheritors"):
            self._inheritors = weakref.WeakSet[SpanLabels]()
        self._inheritors.add(labels)


class LabelRules:
    """Which labels spans get."""

    def __init__(self, span_id_scope: Scope = Scope.ROOT, span_name_scope: Scope = Scope.ROOT) -> None:
        # Compared once: looking a member of an enumeration up costs as much as formatting an id.
        self._span_ids = span_id_scope is not Scope.NONE
        self._own_span_ids = span_id_scope is Scope.ALL
        self._span_names = span_name_scope is not Scope.NONE
        self._own_span_names = span_name_scope is Scope.ALL
        self._name_labels: dict[str, Pairs] = {}
        self.descendants_share = not (self._own_span_ids or self._own_span_names)
        """Whether a descendant's labels are its local root's, so that both can hold the same object."""

    def of_local_root(self, span_context: SpanContext, name: str) -> SpanLabels:
        """Return the labels of a local root span: no parent, a remote one, or one that we did not start."""
        try:
            name_label = self._name_labels[name]
        except (KeyError, TypeError):
            name_label = self._name_label(name)
        span_id = span_context[1]
        if span_context[3] & _SAMPLED:
            # to_bytes().hex() takes half the time of format().
            trace_label = (TRACE_ID, span_context[0].to_bytes(16, "big").hex())
            profile_id = span_id.to_bytes(8, "big").hex() if self._span_ids else ""
            if name_label and profile_id:  # the default, and every root span pays for it
                return SpanLabels(span_id, True, (trace_label, (SPAN_ID, profile_id), name_label[0]), profile_id)
            labels = SpanLabels(span_id, True, (trace_label, *_pair(SPAN_ID, profile_id), *name_label), profile_id)
        else:
            labels = SpanLabels(span_id, False, name_label)
        if not self._span_names:
            labels.keeps_name = True
        return labels

    def _name_label(self, name: object) -> Pairs:
        """Return the label ``span_name``, and remember it: spans have few names, that is what makes them names."""
        label = _pair(SPAN_NAME, label_value(name)) if self._span_names else NO_LABELS
        if type(name) is str and len(name) <= _SHORT and len(self._name_labels) < _FEW:
            self._name_labels[name] = label
        return label

    def of_descendant(self, parent: SpanLabels, span_context: SpanContext, name: object) -> SpanLabels:
        """Return the labels of a span whose parent has `parent`."""
        trace_id, span_id, _, trace_flags, _, _ = span_context
        if span_id == parent.owner:
            return parent  # a tracer that is switched off hands its parent on under the same identity
        root: SpanLabels = getattr(parent, "root", parent)
        profile_id = ""
        pairs: Pairs = NO_LABELS
        if trace_flags & _SAMPLED:
            if self._own_span_ids:
                profile_id = span_id.to_bytes(8, "big").hex()
            # No id where the root was not sampled: it is not exported, so its id would lead nowhere.
            pairs = ((TRACE_ID, trace_id.to_bytes(16, "big").hex()), *_pair(SPAN_ID, profile_id or root.get(SPAN_ID)))
        name = label_value(name) if self._own_span_names else root.get(SPAN_NAME)
        labels = SpanLabels(span_id, bool(trace_flags & _SAMPLED), (*pairs, *_pair(SPAN_NAME, name)), profile_id, root)
        if not self._own_span_names:
            root.inherit(labels)
        return labels


def _pair(key: str, value: str) -> Pairs:
    return ((key, value),) if value else NO_LABELS
