"""What readers outside are told of the process as a whole, read back by another implementation of protobuf."""

from __future__ import annotations

import ctypes
import mmap
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry.exporter.otlp.proto.common._internal import _encode_attributes
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from otel_profiling_configurator.context.process_context import KEYS_KEY, MAX_BYTES, SCHEMA, SCHEMA_KEY, process_context

from ... import refusing
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


AT_LEISURE = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""How long an example takes on a busy machine says nothing."""


@AT_LEISURE
@given(st.dictionaries(st.text(min_size=1, max_size=40), VALUES, max_size=20))
def test_any_resource(resource: Mapping[str, Any]) -> None:
    """Every attribute is what OpenTelemetry's exporter makes of it."""
    encoded = _encode_attributes(resource) or []
    assert decoded(process_context(resource, []))[0] == list(encoded)


@AT_LEISURE
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


PUBLISHING = '''
import mmap, os, struct

from otel_profiling_configurator.native import native


def mappings():
    """Address and name of each, also of one that the system gave no name."""
    found = []
    with open("/proc/self/maps") as maps:
        lines = [line.removesuffix(" (deleted)\\n").split(maxsplit=5) for line in maps]
    for addresses, *_, name in (line if len(line) > 5 else [*line, ""] for line in lines):
        start, end = (int(address, 16) for address in addresses.split("-"))
        if "OTEL_CTX" in name:
            found.append((start, name))
        elif not name and end - start == mmap.PAGESIZE and read(start, 8) == b"OTEL_CTX":
            found.append((start, ""))
    return found


def read(address, size):
    with open("/proc/self/mem", "rb", 0) as memory:
        try:
            return os.pread(memory.fileno(), size, address)
        except OSError:
            return None  # nothing is there


def tell(who):
    found = []
    for address, name in mappings():
        signature, version, size, published_at, payload = struct.unpack("<8sIIQQ", read(address, 32))
        assert (signature, version) == (b"OTEL_CTX", 2)
        assert published_at > 0
        found.append((name, read(payload, size)))
    print(who, found, flush=True)


native.publish_process_context(b"parent's")
tell("parent")
addresses = [address for address, _ in mappings()]
if (child := os.fork()) == 0:
    assert not any(read(address, 8) == b"OTEL_CTX" for address in addresses)
    tell("child")
    native.publish_process_context(b"child's, which is longer")
    tell("child")
    native.publish_process_context(b"again")
    tell("child")
    native.drop_process_context()
    tell("child")
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
tell("parent")
'''


@pytest.mark.skipif(sys.platform != "linux", reason="there are no such readers")
@pytest.mark.parametrize(
    ("refused", "name"),
    [
        ("", "/memfd:OTEL_CTX"),
        ("memfd_create", "[anon:OTEL_CTX]"),
        ("memfd_create,prctl=0", ""),  # the same for kernels without such names
        ("memfd_create,prctl", None),
    ],
)
def test_system_that_refuses(request: pytest.FixtureRequest, refused: str, name: str | None) -> None:
    """Without files in memory the mapping has its name by `prctl`; where that is refused, too, nothing is published. A forked
    child has nothing of its parent's, and what it publishes is found beside that."""
    skip_if_pure(request)
    command = [sys.executable, refusing.__file__, refused, sys.executable, "-c", PUBLISHING]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == refusing.NOT_HERE:
        pytest.skip("no such filter can be installed here")
    print(done.stdout)
    assert (done.returncode, done.stderr) == (0, "")
    if name == "[anon:OTEL_CTX]" and not has_names():
        name = None
    payloads = [("parent", b"parent's"), ("child", None), ("child", b"child's, which is longer"), ("child", b"again")]
    payloads += [("child", None), ("parent", b"parent's")]
    expected = [f"{who} {[(name, payload)] if name is not None and payload else []}" for who, payload in payloads]
    assert done.stdout.splitlines() == expected


def has_names() -> bool:
    """Whether this kernel names anonymous memory."""
    with mmap.mmap(-1, mmap.PAGESIZE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
        at = ctypes.c_char.from_buffer(memory)
        set_name, anonymous = 0x53564D41, 0  # PR_SET_VMA, PR_SET_VMA_ANON_NAME
        size = ctypes.c_size_t(mmap.PAGESIZE)
        done: int = ctypes.CDLL(None).prctl(set_name, ctypes.c_ulong(anonymous), ctypes.byref(at), size, b"OTEL_TEST")
        del at
    return done == 0
