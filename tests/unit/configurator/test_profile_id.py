"""The attribute that links a span to its profile, set the cheap way and as the SDK would."""

from __future__ import annotations

from typing import Any

import pytest
from opentelemetry.sdk.trace import SpanLimits, TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import INVALID_SPAN
from otel_profiling_configurator.spans.profile_id import set_profile_id

ATTRIBUTE = "pyroscope.profile.id"
ID = "00f067aa0ba902b7"


def started(attributes: dict[str, Any] | None = None, limit: int | None = None) -> Any:
    limits = SpanLimits(max_span_attributes=SpanLimits.UNSET if limit is None else limit)
    provider = TracerProvider(sampler=ALWAYS_ON, span_limits=limits, shutdown_on_exit=False)
    return provider.get_tracer("test").start_span("span", attributes=attributes)


@pytest.mark.parametrize("limit", [None, 128, 2])
def test_span_of_the_sdk(limit: int | None) -> None:
    """It has the attribute beside its own, and can be given others."""
    span = started({"a": 1}, limit)
    set_profile_id(span, ID)
    assert span.attributes == {"a": 1, ATTRIBUTE: ID}
    assert span.dropped_attributes == 0
    span.set_attribute(ATTRIBUTE, "set by the application")
    assert span.attributes[ATTRIBUTE] == "set by the application"


@pytest.mark.parametrize(("limit", "attributes"), [(2, {"a": 1, "b": 2}), (1, {"a": 1}), (0, {"a": 1}), (0, None)])
def test_attribute_limit_reached(limit: int, attributes: dict[str, int] | None) -> None:
    """What gives way, and what is counted as dropped, is what the SDK's own `set_attribute` says."""
    ours, theirs = started(attributes, limit), started(attributes, limit)
    set_profile_id(ours, ID)
    theirs.set_attribute(ATTRIBUTE, ID)
    assert ours.attributes == theirs.attributes
    assert ours.dropped_attributes == theirs.dropped_attributes


class Foreign:
    """A span of an SDK that keeps its attributes elsewhere."""

    def __init__(self, store: Any) -> None:
        self.seen: dict[str, str] = {}
        if store is not None:
            self._attributes = store

    def set_attribute(self, key: str, value: str) -> None:
        self.seen[key] = value


class Lookalike:
    """Has what `BoundedAttributes` has, but is none."""

    maxlen = 10

    def __init__(self) -> None:
        self._dict: dict[str, str] = {}


@pytest.mark.parametrize("store", [None, {}, [], Lookalike()], ids=["nothing", "dict", "list", "lookalike"])
def test_span_of_another_sdk(store: Any) -> None:
    """It is asked in the API's way, and its insides are not touched."""
    span = Foreign(store)
    set_profile_id(span, ID)
    assert span.seen == {ATTRIBUTE: ID}
    assert not getattr(store, "_dict", store)


def test_span_that_records_nothing() -> None:
    """There is nothing to set, and nothing goes wrong."""
    set_profile_id(INVALID_SPAN, ID)
    assert not hasattr(INVALID_SPAN, "_attributes")
