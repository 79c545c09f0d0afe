"""What readers outside are told of the process as a whole, read back by another implementation of protobuf."""

from __future__ import annotations

import platform
import subprocess
import sys
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
from .fakes import skip_if_pure

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


REFUSING = """
import ctypes, errno, struct, sys

from otel_profiling_configurator.native import native

LOAD, JUMP_IF_EQUAL, RETURN, ALLOW, FAIL_WITH = 0x20, 0x15, 0x06, 0x7FFF0000, 0x00050000


class Filter(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("program", ctypes.c_void_p))


steps = [(LOAD, 0, 0, 0)]
for number in map(int, sys.argv[1:]):
    steps += [(JUMP_IF_EQUAL, 0, 1, number), (RETURN, 0, 0, FAIL_WITH | errno.EPERM)]
steps.append((RETURN, 0, 0, ALLOW))
program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
libc = ctypes.CDLL(None)
libc.prctl(38, 1, 0, 0, 0)  # PR_SET_NO_NEW_PRIVS
if libc.prctl(22, 2, ctypes.byref(Filter(len(steps), ctypes.addressof(program))), 0, 0):  # PR_SET_SECCOMP
    sys.exit(77)
is_published = native.publish_process_context(b"payload")
with open("/proc/self/maps") as maps:
    names = [line.split()[-1] for line in maps if "OTEL_CTX" in line and "memfd" not in line]
print(is_published, names)
"""
MEMFD_CREATE, PRCTL = (319, 157) if platform.machine() == "x86_64" else (279, 167)


@pytest.mark.skipif(sys.platform != "linux", reason="there are no such readers")
@pytest.mark.parametrize("refused", [(MEMFD_CREATE,), (MEMFD_CREATE, PRCTL)])
def test_system_that_refuses(request: pytest.FixtureRequest, refused: tuple[int, ...]) -> None:
    """Without files in memory the mapping has its name by `prctl`; where that is refused, too, nothing is published."""
    skip_if_pure(request)
    command = [sys.executable, "-c", REFUSING, *map(str, refused)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == 77:
        pytest.skip("no such filter can be installed here")
    assert (done.returncode, done.stderr) == (0, "")
    answers = ["False []\n"]
    if PRCTL not in refused:
        answers.append("True ['[anon:OTEL_CTX]']\n")  # this kernel has such names
    assert done.stdout in answers
