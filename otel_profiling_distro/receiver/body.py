"""Takes the wrapping off what arrived, within bounds: a receiver must not fall over a hostile or broken body."""

from __future__ import annotations

import zlib
from http import HTTPStatus

MAX_BODY = 16 * 2**20
"""Bytes, as sent and once more after decompression. A process that is always busy sends some 100,000 in ten seconds, and
Pyroscope takes 4 MiB of a profile."""

_GZIP = zlib.MAX_WBITS | 16
"""Tells zlib to expect a gzip header."""


class BodyError(ValueError):
    """A request's body that can't be understood; the message says why, for the sender to read."""

    status = HTTPStatus.BAD_REQUEST


class BodyTooLargeError(BodyError):
    """A body that holds more than `MAX_BODY`."""

    status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE


def gunzip(data: bytes, room: int | None = None) -> bytes:
    """Return `data` decompressed, at most `room` bytes, or where that is None `MAX_BODY`.

    Raises:
        BodyTooLargeError: it holds more than that.
        BodyError: it is not gzip, or is cut short.
    """
    most = MAX_BODY if room is None else room
    if most <= 0:  # zlib would take 0 for no bound
        raise BodyTooLargeError(f"more than {MAX_BODY} bytes after decompression")
    decompressor = zlib.decompressobj(_GZIP)
    try:
        plain = decompressor.decompress(data, most)
    except zlib.error as error:
        raise BodyError(f"not gzip: {error}") from error
    if decompressor.unconsumed_tail:
        raise BodyTooLargeError(f"more than {MAX_BODY} bytes after decompression")
    if not decompressor.eof:
        raise BodyError("gzip that ends too early")
    return plain


def decode_content(data: bytes, encoding: str) -> bytes:
    """Return `data` without its content-encoding.

    Raises:
        BodyError: the encoding is neither gzip nor identity, or `data` is not of it.
    """
    match encoding.strip().lower():
        case "" | "identity":
            return data
        case "gzip":
            return gunzip(data)
        case _:
            raise BodyError(f"content-encoding {encoding!r}: only gzip is understood")
