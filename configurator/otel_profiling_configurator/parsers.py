"""What the text of a setting means: one function for each kind of value, which raises `ValueError` with what was expected."""

from __future__ import annotations

import json
import re
import signal
from urllib.parse import urlsplit

PROFILE_TYPES = ("cpu", "wall", "memory")

REPORT_SIGNALS = ("SIGUSR1", "SIGUSR2")
"""Those that mean nothing of their own: any other already ends a process, stops it, or is a library's."""

MAX_BAGGAGE_KEYS = 8
"""Most labels we make of baggage: together with the static ones still fewer than the server allows."""

MAX_NAME = 1024
"""Longest label name that Pyroscope takes by default."""

MAX_HEADER = 4096
"""Longest header value and credential that we send, in characters. Servers refuse requests with more than 8 KiB or so of
headers, and would refuse every upload."""

_LABEL_NAME = r"[A-Za-z_][A-Za-z0-9_]*"
_HEADER_NAME = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"


def label_name(text: str) -> str:
    """Return `text` as a label name that Pyroscope accepts: dots and other foreign characters become underscores.

    Raises:
        ValueError: nothing is left, it is too long, or the name is one of the server's own (``__name__``).
    """
    name = re.sub(r"[^A-Za-z0-9_]", "_", text.strip())
    if name[:1].isdigit():
        name = "_" + name
    if not re.fullmatch(_LABEL_NAME, name) or not name.strip("_"):
        raise ValueError("a label needs a name")
    if len(name) > MAX_NAME:
        raise ValueError(f"a label's name is no longer than {MAX_NAME} characters")
    if name.startswith("__"):
        raise ValueError("names that begin with two underscores belong to the server")
    if name in ("service_name", "trace_id", "span_id", "span_name"):
        raise ValueError("set by the agent or by spans")
    return name


def boolean(text: str) -> bool:
    """Return whether it says yes."""
    lowered = text.lower()
    if lowered in ("true", "1", "yes", "on"):
        return True
    if lowered in ("false", "0", "no", "off"):
        return False
    raise ValueError("expected true or false")


def utf8(text: str) -> str:
    """Return `text` itself, which can be sent."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("not valid UTF-8") from None
    return text


def address(text: str) -> str:
    """Return the server's address, without a slash at its end."""
    try:
        parts = urlsplit(utf8(text))
        if parts.scheme in ("http", "https") and parts.hostname and parts.port != 0:  # port raises where it is no number
            return text.rstrip("/")
    except ValueError:
        pass  # its message quotes the address
    raise ValueError("expected http://host:port or https://host")


def header_name(text: str) -> str:
    """Return the name of an HTTP header."""
    if not re.fullmatch(_HEADER_NAME, text.strip()):
        raise ValueError("not a header name")
    return text.strip()


def header_value(text: str) -> str:
    """Return the value of an HTTP header."""
    if not utf8(text).isprintable():
        raise ValueError("not a header value")
    return credential(text)


def credential(text: str) -> str:
    """Return what is sent in a header in another form, such as a user."""
    if len(utf8(text)) > MAX_HEADER:
        raise ValueError(f"longer than {MAX_HEADER} characters")
    return text


def json_headers(text: str) -> dict[str, str]:
    """Return headers out of a JSON object, as Grafana's other agents have them."""
    try:
        headers = json.loads(text)
    except (json.JSONDecodeError, RecursionError):
        raise ValueError('expected a JSON object such as {"name": "value"}') from None
    if not isinstance(headers, dict) or not all(isinstance(value, str) for value in headers.values()):
        raise ValueError('expected a JSON object of strings such as {"name": "value"}')
    return {header_name(name): header_value(value) for name, value in headers.items()}


def renames(text: str) -> dict[str, str]:
    """Return resource attributes and the label name of each; an empty one for those that keep their own."""
    renames = {}
    for entry in filter(None, map(str.strip, text.split(","))):
        attribute, _, name = entry.partition("=")
        if not attribute.strip():
            raise ValueError("expected names, or name=label")
        renames[attribute.strip()] = label_name(name) if name.strip() else ""
    return renames


def baggage_keys(text: str) -> dict[str, str]:
    """Return keys of baggage entries and the label name of each."""
    keys = {key: name or label_name(key) for key, name in renames(text).items()}
    if len(keys) > MAX_BAGGAGE_KEYS:
        raise ValueError(f"expected at most {MAX_BAGGAGE_KEYS} keys")
    if len(set(keys.values())) < len(keys):
        raise ValueError("expected each label name once")
    return keys


def types(text: str) -> tuple[str, ...]:
    """Return the types of profiles, each once."""
    types = tuple(dict.fromkeys(filter(None, map(str.strip, text.lower().split(",")))))
    if not types or not set(types) <= set(PROFILE_TYPES):
        raise ValueError(f"expected some of {', '.join(PROFILE_TYPES)}")
    if {"cpu", "wall"} <= set(types):
        raise ValueError("cpu and wall exclude each other")
    return types


def sample_rate(text: str) -> int:
    """Return samples a second."""
    try:
        rate = int(text)
    except ValueError:
        raise ValueError("expected a whole number of samples a second") from None
    if not 1 <= rate <= 1000:  # noqa: PLR2004 - above, the sampler would take more time than the application
        raise ValueError("expected 1 to 1000 samples a second")
    return rate


def seconds(text: str) -> int:
    """Return a duration in whole seconds."""
    match = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?)\s*(ms|s|m|h)?", text.lower(), re.ASCII)
    if not match:
        raise ValueError("expected a duration such as 10s or 1m")
    seconds = float(match[1]) * {"ms": 0.001, "s": 1, "m": 60, "h": 3600}[match[2] or "s"]
    if not 1 <= seconds <= 3600:  # noqa: PLR2004 - the agent counts whole seconds, and holds what it has not sent in memory
        raise ValueError("expected 1s to 1h")
    return round(seconds)


def log_level(text: str) -> int:
    """Return a `logging` level."""
    levels = {"debug": 10, "info": 20, "warn": 30, "warning": 30, "error": 40, "critical": 50}
    try:
        return levels[text.lower()]
    except KeyError:
        raise ValueError("expected debug, info, warning, error or critical") from None


def report_signal(text: str) -> int:
    """Return the number of a signal."""
    name = text.upper()
    if not name.startswith("SIG"):
        name = f"SIG{name}"
    if name not in REPORT_SIGNALS:
        raise ValueError(f"expected one of {', '.join(REPORT_SIGNALS)}")
    return int(getattr(signal, name))
