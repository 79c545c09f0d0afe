"""Which entries of the current baggage become labels.

Baggage comes with requests, from whoever sent them. So only the keys that were asked for are looked at, and a value is cut:
each of its values makes a series in Pyroscope.
"""

from __future__ import annotations

from collections.abc import Mapping

from opentelemetry.baggage import set_baggage
from opentelemetry.context import Context

from .labels import label_value

(BAGGAGE,) = set_baggage("key", "value", Context())
"""Key of the baggage in a context. Learnt through the API, which has no public name for it."""

MAX_CHARACTERS = 100
"""Longest value that is sent."""

Pairs = tuple[tuple[str, str], ...]
"""Labels as (name, value) pairs, no name twice."""


def baggage_labels(entries: object, names: Mapping[str, str]) -> Pairs:
    """Return the labels of a context's baggage.

    Args:
        entries: The value of `BAGGAGE` in the context, whatever it is.
        names: Key of a baggage entry to label name.
    """
    if not isinstance(entries, Mapping):
        return ()
    found = ((name, entries.get(key)) for key, name in names.items())
    # Values may be objects of any kind, which are compared with nothing: that could be anybody's code.
    texts = ((name, label_value(str(value)[:MAX_CHARACTERS])) for name, value in found if value is not None)
    return tuple((name, text) for name, text in texts if text)
