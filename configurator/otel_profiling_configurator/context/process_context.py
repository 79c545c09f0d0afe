"""What readers outside the process are told about it as a whole: its resource, and how its thread contexts are to be read.

The message is OpenTelemetry's `ProcessContext` (enhancement proposal 4719): the resource, and attributes that are none of it.
It is encoded here, in a few lines: protobuf is no dependency of this package.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence

SCHEMA = "tlsdesc_v1_dev"
"""How thread contexts are laid out (proposal 4947): the name that readers of the year 2026 know. The text has another one,
`tls_v1`, in store for a later release."""

SCHEMA_KEY = "threadlocal.schema_version"
KEYS_KEY = "threadlocal.attribute_key_map"

MAX_BYTES = 65536
"""Longest message that the OpenTelemetry eBPF profiler reads (2026)."""

_VARINT, _EIGHT_BYTES, _BYTES = 0, 1, 2
_INT64 = 1 << 63


def process_context(resource: Mapping[str, object], keys: Sequence[str]) -> bytes:
    """Return the message.

    Args:
        resource: Attributes of the resource. Those that would make the message longer than `MAX_BYTES` are left out.
        keys: Names of the attributes of thread contexts, by their index.
    """
    ours = _field(2, _key_value(SCHEMA_KEY, SCHEMA)) + _field(2, _key_value(KEYS_KEY, list(keys)))
    room = MAX_BYTES - len(ours) - _MOST_OF_HEAD
    attributes = b""
    for key, value in resource.items():
        attribute = _field(1, _key_value(str(key), value))
        if len(attributes) + len(attribute) <= room:
            attributes += attribute
    return _field(1, attributes) + ours


_MOST_OF_HEAD = 4
"""Bytes before the resource: its number and its length."""


def _varint(number: int) -> bytes:
    encoded = bytearray()
    while number > 0x7F:  # noqa: PLR2004 - seven bits a byte
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def _field(number: int, content: bytes, kind: int = _BYTES) -> bytes:
    head = _varint(number << 3 | kind)
    return head + (_varint(len(content)) if kind == _BYTES else b"") + content


def _key_value(key: str, value: object) -> bytes:
    return _field(1, _text(key)) + _field(2, _any_value(value))


def _any_value(value: object) -> bytes:  # noqa: PLR0911 - one for each kind of value
    """Return a value that attributes may have; whatever else it is becomes text."""
    if isinstance(value, bool):
        return _field(2, _varint(value), _VARINT)
    if isinstance(value, int) and -_INT64 <= value < _INT64:
        return _field(3, _varint(value % (2 * _INT64)), _VARINT)
    if isinstance(value, float):
        return _field(4, struct.pack("<d", value), _EIGHT_BYTES)
    if isinstance(value, bytes):
        return _field(7, value)
    if isinstance(value, Mapping):
        return _field(6, _repeated(_key_value(str(key), of_key) for key, of_key in value.items()))
    if isinstance(value, Sequence) and not isinstance(value, str):
        return _field(5, _repeated(map(_any_value, value)))
    return _field(1, _text(str(value)))


def _repeated(messages: Iterable[bytes]) -> bytes:
    return b"".join(_field(1, message) for message in messages)


def _text(text: str) -> bytes:
    return text.encode("utf-8", "replace")
