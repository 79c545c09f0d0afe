"""What a running process has published for profilers outside it: read from its memory, as such a profiler reads it.

The layout is that of OpenTelemetry's enhancement proposal 4719: a mapping with a name of its own, whose header leads to a
protobuf message, `ProcessContext`. Linux lets those read another process's memory who may trace it.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path

from google.protobuf.message import DecodeError
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource

from .finding import Finding, Level

_NAME = "OTEL_CTX"
_HEADER = struct.Struct("<8sIIQQ")
"""Signature, version, bytes of the message, time of publication (0 while it changes), address of the message."""
_VERSION = 2
_MOST_BYTES = 1 << 20
_ATTEMPTS = 100
_RESOURCE, _ATTRIBUTES = 1, 2
_SCHEMA = "threadlocal.schema_version"
_SHOWN = ("service.name", "service.namespace", "service.version", "service.instance.id", "k8s.pod.name")
_SHOWN_CHARACTERS = 80


def findings(folder: Path, mapped: str) -> Iterator[Finding]:
    """Yield what is published, or why that can't be read.

    Args:
        folder: Of the process in ``/proc``.
        mapped: The text of its ``maps``.
    """
    start = _address(mapped)
    if start is None:
        yield Finding(
            "published",
            Level.NOTE,
            "nothing is published for profilers outside the process.",
            "Such a profiler, as Alloy's pyroscope.ebpf is one, sees its stacks without spans.",
        )
        return
    try:
        resource, attributes = _read(folder / "mem", start)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        yield Finding(
            "published",
            Level.NOTE,
            f"a process context is published; it can't be read from here: {reason}.",
            remedy="Whoever may trace the process may read it: root, or its own user where kernel.yama.ptrace_scope is 0.",
        )
        return
    named = ", ".join(f"{key}={ascii(resource[key])[1:-1][:_SHOWN_CHARACTERS]}" for key in _SHOWN if key in resource)
    spans = f"the span of each thread ({attributes[_SCHEMA]})" if _SCHEMA in attributes else "no spans"
    yield Finding("published", Level.OK, f"for profilers outside the process: its resource ({named or 'no name'}), and {spans}")


def _address(mapped: str) -> int | None:
    for line in mapped.splitlines():
        place, *_, name = line.split(maxsplit=5)
        if _NAME in name:
            return int(place.partition("-")[0], 16)
    return None


def _read(memory: Path, start: int) -> tuple[Mapping[str, str], Mapping[str, str]]:
    """Return the attributes of the resource, and those beside it, as texts.

    Raises:
        OSError: the memory may not be read.
        ValueError: what lies there is no process context, or changes all the time.
    """
    with memory.open("rb", buffering=0) as file:
        for _ in range(_ATTEMPTS):
            signature, version, size, published_at, address = _HEADER.unpack(_at(file.fileno(), start, _HEADER.size))
            if signature != _NAME.encode() or version != _VERSION or size > _MOST_BYTES:
                raise ValueError("it is laid out in a way that is not known here")
            message = _at(file.fileno(), address, size)
            # The same time before and after: what was read between is whole.
            if published_at and _HEADER.unpack(_at(file.fileno(), start, _HEADER.size))[3] == published_at:
                return _parse(message)
    raise ValueError("it changes all the time")


def _at(memory: int, address: int, size: int) -> bytes:
    data = os.pread(memory, size, address)
    if len(data) < size:
        raise ValueError("its memory ends too early")
    return data


def _parse(message: bytes) -> tuple[Mapping[str, str], Mapping[str, str]]:
    resource: dict[str, str] = {}
    attributes: dict[str, str] = {}
    try:
        for number, content in _fields(message):
            if number == _RESOURCE:
                resource = {item.key: _text(item) for item in Resource.FromString(content).attributes}
            elif number == _ATTRIBUTES:
                item = KeyValue.FromString(content)
                attributes[item.key] = _text(item)
    except (DecodeError, IndexError):
        raise ValueError("it is no message of that kind") from None
    return resource, attributes


def _text(item: KeyValue) -> str:
    kind = item.value.WhichOneof("value")
    return str(getattr(item.value, kind)) if kind else ""


def _fields(message: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield number and content of each field. All are messages, of a message that opentelemetry-proto 1.45 does not have."""
    position = 0

    def varint() -> int:
        nonlocal position
        number = shift = 0
        while True:
            byte = message[position]
            position += 1
            number |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:  # noqa: PLR2004 - seven bits a byte, the eighth says whether one follows
                return number

    while position < len(message):
        number = varint() >> 3
        size = varint()
        yield number, message[position : position + size]
        position += size
