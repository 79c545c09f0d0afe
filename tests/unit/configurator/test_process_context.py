"""What readers outside are told of the process as a whole, read back by another implementation of protobuf."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.exporter.otlp.proto.common._internal import _encode_attributes
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from otel_profiling_configurator.context.process_context import KEYS_KEY, MAX_BYTES, SCHEMA, SCHEMA_KEY, process_context

from ...context_reader import fields_of

TEXTS = st.text(max_size=300)
NUMBERS = st.integers(min_value=-(1 << 63), max_value=(1 << 63) - 1)
SCALARS = TEXTS | NUMBERS | st.booleans() | st.floats(allow_nan=False)
VALUES = SCALARS | st.lists(TEXTS) | st.lists(NUMBERS) | st.lists(st.booleans()) | st.lists(st.floats(allow_nan=False))


def decoded(message: bytes) -> tuple[list[KeyValue], dict[str, KeyValue]]:
    """The resource's attributes, and those beside it."""
    resource: list[KeyValue] = []
    others = {}
    for number, content in fields_of(message):
        if number == 1:
            resource = list(Resource.FromString(content).attributes)
        else:
            item = KeyValue.FromString(content)
            others[item.key] = item
    return resource, others


@given(st.dictionaries(st.text(min_size=1, max_size=40), VALUES, max_size=20))
def test_any_resource(resource: Mapping[str, Any]) -> None:
    """Every attribute is what OpenTelemetry's exporter makes of it."""
    encoded = _encode_attributes(resource) or []
    assert decoded(process_context(resource, []))[0] == list(encoded)


@given(st.lists(TEXTS, max_size=20))
def test_keys(keys: list[str]) -> None:
    """The names of thread contexts' attributes stand in their order, and which layout the records have."""
    _, others = decoded(process_context({}, keys))
    assert others[SCHEMA_KEY].value.string_value == SCHEMA
    assert [item.string_value for item in others[KEYS_KEY].value.array_value.values] == keys


@pytest.mark.parametrize("value", [1 << 63, object, None, {"a": {"b": 1}}, b"bytes", "\ud800", [None, ("a", 1)]])
def test_odd_values(value: object) -> None:
    """What no attribute should be becomes some value, and never fails."""
    (item,), _ = decoded(process_context({"odd": value}, []))
    assert item.value.WhichOneof("value")


def test_huge_resource() -> None:
    """What would make the message longer than readers take is left out, and nothing else."""
    resource = {"service.name": "shop", "huge": "x" * MAX_BYTES, "b": "y" * 60000, "c": "z" * 60000, "service.version": "1"}
    message = process_context(resource, ["span_name"])
    attributes, others = decoded(message)
    assert len(message) <= MAX_BYTES
    assert [item.key for item in attributes] == ["service.name", "b", "service.version"]
    assert len(others) == 2
