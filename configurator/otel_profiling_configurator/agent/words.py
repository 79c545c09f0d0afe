"""Reads what the agent says on descriptor 2: the only place where it tells of uploads that failed and of its own end.

It says a line for each upload that failed, with the server's words, and its threads say where they panic, as any program in
Rust does (pyroscope-io 1.4).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

# Compiled where they are used: most processes never need them, and at each start it would take a millisecond.
_REFUSED = r"Sending Session failed (\d{3})\s*(.*)"
_UNSENT = r"Failed to send session: (.*)"
_PANIC = r"panicked at (.*)"
_ENDED = r"Backend shutdown error: (.*)"
_CREDENTIALS = r"//[^/@\s]*@"

_SHOWN_CHARACTERS = 300
"""How much of a server's answer a warning quotes."""

_ADDRESS = "OTEL_PROFILING_SERVER_ADDRESS"
_REMEDIES = {
    400: "It does not accept what it is sent; its log may say why.",
    401: "Does it want a tenant (OTEL_PROFILING_TENANT_ID), or credentials (OTEL_PROFILING_BASIC_AUTH_USER and "
    "OTEL_PROFILING_BASIC_AUTH_PASSWORD, OTEL_PROFILING_HEADERS)?",
    403: "May these credentials (OTEL_PROFILING_BASIC_AUTH_USER) write for this tenant (OTEL_PROFILING_TENANT_ID)?",
    404: f"Is {_ADDRESS} a Pyroscope's, with the path before /push.v1.PusherService, if it has one?",
    405: f"Is {_ADDRESS} a Pyroscope's?",
    407: "A proxy wants credentials: see HTTP_PROXY, HTTPS_PROXY and NO_PROXY.",
    413: "A shorter OTEL_PROFILING_UPLOAD_INTERVAL makes smaller uploads.",
    429: "Raise the server's limit (max-global-series-per-tenant, ingestion-rate-mb), or have fewer series: "
    "OTEL_PROFILING_SPAN_NAME_SCOPE=none, OTEL_PROFILING_RESOURCE_LABELS.",
}
_UNREACHED = (
    f"Does the name in {_ADDRESS} resolve, does a Pyroscope listen there and answer within 10 s, and, with https, is its "
    "certificate one to trust (SSL_CERT_FILE)?"
)
"""The agent does not say which of these it was."""
_OTHER = "See the server's log."


class Failure(NamedTuple):
    """An upload that failed."""

    reason: str
    """Why, in the server's words where it answered."""
    remedy: str
    """What to do about it, as a sentence."""


class Words(NamedTuple):
    """What the agent has said."""

    failures: list[Failure]
    panics: list[str]
    """Where its threads panicked."""
    ends: list[str]
    """Why its sampler ended before it was told to, which it only says as it is stopped."""


def read(lines: Iterable[bytes]) -> Words:
    """Return what these lines of the agent's say; lines of any other kind are left out."""
    failures, panics, ends = [], [], []
    for raw in lines:
        line = raw.decode(errors="replace")
        if refused := re.search(_REFUSED, line):
            status, answer = int(refused[1]), _shown(refused[2])
            failures.append(Failure(f"it answers {status}{answer and f' {answer}'}", _REMEDIES.get(status, _OTHER)))
        elif unsent := re.search(_UNSENT, line):
            failures.append(Failure(_shown(unsent[1]), _UNREACHED))
        elif panic := re.search(_PANIC, line):
            panics.append(_shown(panic[1]).rstrip(":"))
        elif ended := re.search(_ENDED, line):
            ends.append(_shown(ended[1]))
    return Words(failures, panics, ends)


def _shown(text: str) -> str:
    """Return the words of a stranger as a log line can have them: printable, no password, no longer than needed."""
    text = re.sub(_CREDENTIALS, "//***@", text.strip())
    if len(text) > _SHOWN_CHARACTERS:
        text = text[:_SHOWN_CHARACTERS] + "..."
    return ascii(text)[1:-1].replace("\\'", "'")
