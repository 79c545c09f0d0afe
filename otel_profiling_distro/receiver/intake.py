"""Decides what becomes of an upload: kept, or refused, in the words of the servers that are played."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Mapping
from http import HTTPStatus

from .body import BodyError, decode_content
from .model import Push, Refusal
from .otlp import decode_traces
from .pprof import decode_push
from .rules import RefusedError, SeriesLimit, require_profiles, require_tenant
from .store import Store

PUSH_PATH = "/push.v1.PusherService/Push"
TRACES_PATH = "/v1/traces"
IGNORED_PATHS = frozenset({"/v1/metrics", "/v1/logs"})
"""Other signals of OpenTelemetry: taken, so that no exporter complains, and dropped."""


class Intake:
    """Takes uploads into a store and remembers how it answered. Thread-safe.

    Args:
        store: Where samples and spans go.
        push_status: HTTP status to answer pushes with; an error refuses them.
        tenant: Refuse pushes of others; None asks for no tenant.
        series_limit: Refuse series beyond this number; None sets no limit.
        remembered: How many pushes and refusals are remembered, the last ones; None: all.
    """

    def __init__(
        self, store: Store, push_status: int, tenant: str | None, series_limit: int | None, remembered: int | None
    ) -> None:
        self.push_status = push_status
        self._store = store
        self._tenant = tenant
        # Guards what follows.
        self._lock = threading.Lock()
        self._series_limit = SeriesLimit(series_limit)
        self._pushes: deque[Push] = deque(maxlen=remembered)
        self._refusals: deque[Refusal] = deque(maxlen=remembered)

    def take(self, path: str, headers: Mapping[str, str], body: bytes) -> None:
        """Take a request's body.

        Args:
            path: What it was sent to.
            headers: Keys in lower case.
            body: As sent.

        Raises:
            RefusedError: it is to be answered with an error; some of it may have been kept all the same.
        """
        try:
            if path == PUSH_PATH:
                self._push(headers, _decoded(headers, body))
            elif path == TRACES_PATH:
                self._store.add_spans(decode_traces(_decoded(headers, body)))
            elif path not in IGNORED_PATHS:
                raise RefusedError(HTTPStatus.NOT_FOUND, f"nothing at {path}: profiles go to {PUSH_PATH}")
        except BodyError as error:
            raise RefusedError(error.status, str(error)) from error

    def _push(self, headers: Mapping[str, str], body: bytes) -> None:
        received = time.time()
        series, profiles = decode_push(body)
        refusal: RefusedError | None = None
        try:
            if self.push_status >= HTTPStatus.BAD_REQUEST:
                raise RefusedError(self.push_status, "this receiver was told to refuse")
            require_tenant(headers, self._tenant)
            require_profiles(len(profiles))
            with self._lock:
                admitted, refusal = self._series_limit.admit(profiles)
            self._store.add_profiles(admitted)
        except RefusedError as error:
            refusal = error
        with self._lock:
            self._pushes.append(Push(received, headers, series, refusal.status if refusal else HTTPStatus.OK))
        if refusal:
            raise refusal

    def remember(self, refusal: Refusal) -> None:
        """Remember that an upload was answered with an error."""
        with self._lock:
            self._refusals.append(refusal)

    def pushes(self) -> list[Push]:
        """Return the pushes, in the order of their arrival, refused ones too."""
        with self._lock:
            return list(self._pushes)

    def refusals(self) -> list[Refusal]:
        """Return the uploads that were answered with an error, in the order of their arrival."""
        with self._lock:
            return list(self._refusals)


def _decoded(headers: Mapping[str, str], body: bytes) -> bytes:
    return decode_content(body, headers.get("content-encoding", ""))
