"""Takes the wrapping off what arrived, within bounds: a receiver must not fall over a hostile or broken body."""

from __future__ import annotations

import zlib
from http import HTTPStatus

MAX_BODY = 64 * 2**20
"""Bytes, as sent and once more after decompression. A ten-second profile has some ten thousand."""

_GZIP = zlib.MAX_WBITS | 16
"""Tells zlib to expect a gzip header."""


class BodyError(ValueError):
    """A request's body that can't be understood; the message says why, for the sender to read."""

    status = HTTPStatus.BAD_REQUEST


class BodyTooLargeError(BodyError):
    """A body that holds more than `MAX_BODY`."""

    status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE


def gunzip(data: bytes) -> bytes:
    """Return `data` decompressed.

    Raises:
        BodyTooLargeError: it holds more than `MAX_BODY`.
        BodyError: it is not gzip, or is cut short.
    """
    decompressor = zlib.decompressobj(_GZIP)
    try:
        plain = decompressor.decompress(data, MAX_BODY)
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
