"""Which spans get a label of their own: the vocabulary that users set and every layer above speaks."""

from __future__ import annotations

from enum import Enum


class Scope(Enum):
    """Which spans own a label (``span_id`` or ``span_name``).

    The values are those of Grafana's otel-profiling-go and of ``OTEL_PROFILING_SPAN_ID_SCOPE``.
    """

    NONE = "none"
    """No span: the label is never written."""
    ROOT = "root"
    """Local root spans; their descendants in this process carry the root's value."""
    ALL = "all"
    """Every span its own value."""

    @classmethod
    def parse(cls, text: str) -> Scope:
        """Return the scope that `text` names, in any case; ``root_span`` and ``all_spans`` are accepted too.

        Raises:
            ValueError: `text` names no scope.
        """
        try:
            return cls(text.strip().lower().removesuffix("_spans").removesuffix("_span"))
        except ValueError:
            raise ValueError("expected none, root or all") from None
