"""Sets the span attribute that links a span to its profile, without what `set_attribute` costs.

The SDK's `Span.set_attribute` takes two locks and looks into the value for what could be wrong with it: as much time as all
the rest of what we do for a span. For a string of ours, on a span that has only just been started, none of it is needed.
So the SDK's own store is written to directly: `BoundedAttributes._dict` (SDK 1.30 to 1.45 at least). Whatever looks
different there, and any other span, gets `set_attribute`.
"""

from __future__ import annotations

from typing import Any

from opentelemetry.attributes import BoundedAttributes

from .labels import PROFILE_ID_ATTRIBUTE


def set_profile_id(span: Any, profile_id: str) -> None:
    """Set ``pyroscope.profile.id`` on `span`, which has just been started on this thread.

    Args:
        span: Any span of the OpenTelemetry API.
        profile_id: 16 lower-case hex digits.
    """
    try:
        attributes = span._attributes
        store = attributes._dict
        # At the limit the oldest attribute has to give way, and be counted: that is the SDK's business.
        if attributes.__class__ is BoundedAttributes and (attributes.maxlen is None or len(store) < attributes.maxlen):
            store[PROFILE_ID_ATTRIBUTE] = profile_id
            return
    except AttributeError:
        pass
    span.set_attribute(PROFILE_ID_ATTRIBUTE, profile_id)
