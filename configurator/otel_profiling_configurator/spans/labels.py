"""What a span's samples are labelled with, decided without touching anything.

The rules are those of Grafana's otel-profiling-go (local root spans, scopes) and of Pyroscope's storage: ``span_id`` and
``trace_id`` are kept beside the series, ``span_name`` becomes part of it, and a value beyond the server's limit costs the
whole upload.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING

from opentelemetry.context import Context
from opentelemetry.trace import INVALID_SPAN, SpanContext, set_span_in_context

from ..native import native
from .scope import Scope

TRACE_ID = "trace_id"
SPAN_ID = "span_id"
SPAN_NAME = "span_name"

PROFILE_ID_ATTRIBUTE = "pyroscope.profile.id"
"""Span attribute by which Grafana selects the profile of a span; its value is that of the label ``span_id``."""

MAX_VALUE_BYTES = 1024
"""Longest label value that we send, in bytes of UTF-8. Pyroscope rejects an upload with one above 2048 by default."""

SAMPLED = 0x01
"""The sampled bit of W3C trace flags. A span without it is not exported, so no id may lead to it."""

_SHORT, _FEW = 200, 1000
"""Length and number of the span names that are remembered: what a rule that made names of ids could cost in memory."""

# Its hex() takes half the time of format(). To name the byte order takes as long as the conversion: only Python 3.10 has to.
if sys.version_info >= (3, 11):
    _to_bytes = int.to_bytes
else:

    def _to_bytes(number: int, length: int) -> bytes:
        return number.to_bytes(length, "big")


KEYS = (TRACE_ID, SPAN_ID, SPAN_NAME)

Values = tuple[str, str, str]
"""What is written on a thread: the values of `KEYS`, in that order, empty for a label that is missing.

A flat tuple, since every root span makes one and every switch between spans compares two.
"""

NO_LABELS: Values = ("", "", "")


def label_value(text: object) -> str:
    """Return `text` as a label value: encodable as UTF-8 and at most `MAX_VALUE_BYTES` long."""
    value = text if type(text) is str else str(text)
    if len(value) <= MAX_VALUE_BYTES and value.isascii():
        return value
    # "replace" for lone surrogates on the way in, "ignore" for a character cut in half by the limit.
    return value.encode("utf-8", "replace")[:MAX_VALUE_BYTES].decode("utf-8", "ignore")


if TYPE_CHECKING or native is None:

    class SpanLabels:
        """The labels of one span, or of a local root span and all descendants that label nothing of their own.

        The native module has the same class, which costs less. There is no `__init__`: what makes one sets the first five, and
        the others stay empty where they have nothing to say.
        """

        owner: int
        """Id of the span they are made for; descendants may hold them too."""
        trace_flags: int
        """The span's; a descendant that is sampled where it isn't, or the other way round, has labels of its own."""
        values: Values
        """Others take their place when a label changes: whoever wrote them on a thread still knows exactly what to remove."""
        process: object
        """In which children of the span are its descendants (`local_roots.this_process`); None if they are in none."""
        serves: bool
        """Whether the span, or one above it in this process, is of the kind ``SERVER`` or ``CONSUMER``."""
        keeps_name: bool
        """There where they don't follow the name of their own span."""
        root: SpanLabels
        """Those of the local root; not there on those themselves, which would be a reference cycle."""
        span_context: SpanContext
        """Of the span that readers outside the process are told of, sampled or not: the root's, or by the scope its own."""
        inheritors: weakref.WeakSet[SpanLabels]
        """Those of descendants that follow the name of these."""
        __slots__ = (
            "__weakref__",
            "inheritors",
            "keeps_name",
            "owner",
            "process",
            "root",
            "serves",
            "span_context",
            "trace_flags",
            "values",
        )

        def __deepcopy__(self, memo: object) -> SpanLabels:
            """Return these labels: a copy of a span is labelled as it is."""
            return self

        def __reduce__(self) -> tuple[Callable[[], SpanLabels], tuple[()]]:
            """Have them be none where they are unpickled: in another process."""
            return labels_elsewhere, ()

else:
    SpanLabels = native.SpanLabels


def rename(labels: SpanLabels, name: str) -> None:
    """Have labels follow a new name of the span they were made for, if it is that span's name that they have."""
    if not hasattr(labels, "keeps_name"):
        for each in (labels, *getattr(labels, "inheritors", ())):
            trace_id, span_id, _ = each.values
            each.values = (trace_id, span_id, name)


def _inherit(labels: SpanLabels, root: SpanLabels) -> None:
    """Have the labels of a descendant follow the name of the local root's instead of their own span's."""
    labels.keeps_name = True
    if not hasattr(root, "inheritors"):
        root.inheritors = weakref.WeakSet[SpanLabels]()
    root.inheritors.add(labels)


def span_labels(owner: int, trace_flags: int, values: Values, process: object = None, serves: bool = False) -> SpanLabels:
    """Return labels of the span with the id `owner`."""
    labels = SpanLabels()
    labels.owner = owner
    labels.trace_flags = trace_flags
    labels.values = values
    labels.process = process
    labels.serves = serves
    return labels


SPAN_ATTRIBUTE = "_otel_profiling_labels"
"""Attribute of a span object that holds its `SpanLabels`. Hot paths spell it out."""

(CURRENT_SPAN,) = set_span_in_context(INVALID_SPAN, Context())
"""Key of the current span in a context. Learnt through the API, which has no public name for it."""

NOT_OURS = span_labels(0, False, NO_LABELS)
"""Labels of every span that we did not start: an API-only one, or another provider's."""


def labels_elsewhere() -> SpanLabels:
    """Return the labels that a span has in a process which it was pickled for."""
    return NOT_OURS


class _NoSpan:
    """What a context without a span is taken to have, so that hot paths need not ask."""

    _otel_profiling_labels = NOT_OURS


NO_SPAN = _NoSpan()


class LabelRules:
    """Which labels spans get."""

    def __init__(self, span_id_scope: Scope = Scope.ROOT, span_name_scope: Scope = Scope.ROOT) -> None:
        self.scopes = (span_id_scope.value, span_name_scope.value)
        # Compared once: looking a member of an enumeration up costs as much as formatting an id.
        self._span_ids = span_id_scope is not Scope.NONE
        self.own_span_ids = span_id_scope is Scope.ALL
        """Whether descendants own the ``span_id`` that they are labelled with."""
        self._span_names = span_name_scope is not Scope.NONE
        self._own_span_names = span_name_scope is Scope.ALL
        self.names: dict[str, str] = {}
        """Names of spans that have been seen, to labels."""
        self.descendants_share = not (self.own_span_ids or self._own_span_names)
        """Whether a descendant's labels are its local root's, so that both can hold the same object."""

    def of_local_root(self, span_context: SpanContext, name: str, process: object = None, serves: bool = False) -> SpanLabels:
        """Return the labels of a local root span; see `SpanLabels` for what is not a rule but a fact about the span."""
        try:
            name = self.names[name]
        except (KeyError, TypeError):
            name = self._name_label(name)
        labels = SpanLabels()  # `span_labels` spelt out
        labels.owner = span_id = span_context[1]
        labels.process = process
        labels.serves = serves
        labels.trace_flags = trace_flags = span_context[3]
        if trace_flags & SAMPLED:
            own_id = _to_bytes(span_id, 8).hex() if self._span_ids else ""
            labels.values = (_to_bytes(span_context[0], 16).hex(), own_id, name)
        else:
            labels.values = ("", "", name)
        if self._span_ids:
            labels.span_context = span_context
        if not self._span_names:
            labels.keeps_name = True
        return labels

    def _name_label(self, name: object) -> str:
        """Return the label ``span_name``, and remember it: spans have few names, that is what makes them names."""
        label = label_value(name) if self._span_names else ""
        if type(name) is str and len(name) <= _SHORT and len(self.names) < _FEW:
            self.names[name] = label
        return label

    def of_descendant(self, parent: SpanLabels, span_context: SpanContext, name: object, process: object = None) -> SpanLabels:
        """Return the labels of a span whose parent has `parent`, and which begins nothing."""
        trace_id, span_id, _, trace_flags, _, _ = span_context
        root: SpanLabels = getattr(parent, "root", parent)
        trace_label = id_label = ""
        _, root_id, root_name = root.values
        if trace_flags & SAMPLED:
            trace_label = _to_bytes(trace_id, 16).hex()
            # No id where the root was not sampled: it is not exported, so its id would lead nowhere.
            id_label = _to_bytes(span_id, 8).hex() if self.own_span_ids else root_id
        name_label = label_value(name) if self._own_span_names else root_name
        labels = span_labels(span_id, trace_flags, (trace_label, id_label, name_label), process, parent.serves)
        labels.root = root
        if self.own_span_ids:
            labels.span_context = span_context
        elif self._span_ids and hasattr(root, "span_context"):  # one by another provider's scopes may have none
            labels.span_context = root.span_context
        if not self._own_span_names:
            _inherit(labels, root)
        return labels
