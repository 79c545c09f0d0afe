"""What a real Pyroscope refuses, in its words, so that what works against this receiver works against a server.

Words and codes are those of Pyroscope's server of August 2026, storage v1: its distributor and ingester answer so.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import replace

from .model import Profile, Sample

_BESIDE_THE_SERIES = frozenset({"span_id", "trace_id"})
"""Labels of samples that the server stores beside the series; every other label makes a series of its own."""

_CODES = {400: "invalid_argument", 401: "unauthenticated", 404: "unimplemented", 413: "resource_exhausted"} | {
    429: "resource_exhausted",
    503: "unavailable",
}

Series = frozenset[tuple[str, str]]
"""The labels by which the server tells one series from another."""


class RefusedError(Exception):
    """A push that a server would not take.

    Args:
        status: HTTP status of the answer.
        words: What it says.
    """

    def __init__(self, status: int, words: str) -> None:
        super().__init__(words)
        self.status = status
        self.words = words


def error_body(status: int, words: str) -> bytes:
    """Return the body of an answer that refuses, as the Connect protocol has it."""
    return json.dumps({"code": _CODES.get(status, "unknown"), "message": words}).encode()


def require_tenant(headers: Mapping[str, str], tenant: str | None) -> None:
    """Return where a request is of `tenant`, by ``X-Scope-OrgID`` or, as in Grafana Cloud, by the user of its basic auth.

    Args:
        headers: Keys in lower case.
        tenant: None asks for none.

    Raises:
        RefusedError: it is of nobody, or of somebody else.
    """
    if tenant is None or headers.get("x-scope-orgid") == tenant or _user(headers.get("authorization", "")) == tenant:
        return
    raise RefusedError(401, "no org id")


def _user(authorization: str) -> str | None:
    scheme, _, encoded = authorization.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        return base64.b64decode(encoded, validate=True).decode().partition(":")[0]
    except (binascii.Error, UnicodeDecodeError):
        return None


def require_profiles(count: int) -> None:
    """Return where a push has `count` profiles, at least one; one without samples counts.

    Raises:
        RefusedError: it has none.
    """
    if not count:
        raise RefusedError(400, "no profiles received")


class SeriesLimit:
    """Takes known series and new ones up to a limit, as a server does for each tenant. Not thread-safe.

    Args:
        limit: How many series there may be; None sets no limit.
    """

    def __init__(self, limit: int | None) -> None:
        self._limit = limit
        self._known: set[Series] = set()

    def admit(self, profiles: list[Profile]) -> tuple[list[Profile], RefusedError | None]:
        """Return the profiles with the samples that are taken, and how the push is refused where that is not all of them."""
        if self._limit is None:
            return profiles, None
        admitted = [replace(profile, samples=[s for s in profile.samples if self._knows(s)]) for profile in profiles]
        whole = all(len(some.samples) == len(all_.samples) for some, all_ in zip(admitted, profiles, strict=True))
        return admitted, None if whole else RefusedError(429, self._words())

    def _knows(self, sample: Sample) -> bool:
        series = series_of(sample)
        if series not in self._known and len(self._known) < (self._limit or 0):
            self._known.add(series)
        return series in self._known

    def _words(self) -> str:
        return (
            f"Maximum active series limit exceeded ({len(self._known)}/{self._limit}), reduce the number of active streams "
            "(reduce labels or reduce label values), or contact your administrator to see if the limit can be increased"
        )


def series_of(sample: Sample) -> Series:
    """Return the labels of the series that a server puts `sample` into: the push's, and the sample's own but for its ids."""
    own = (pair for pair in sample.labels if pair[0] not in _BESIDE_THE_SERIES)
    return frozenset((*sample.series.items(), *own))
