"""Reads our section of the SDK's configuration file (``OTEL_CONFIG_FILE``), as the texts that variables would have.

The file's schema has ``distribution`` for what is no part of OpenTelemetry's own model. Our settings stand there under
``otel_profiling``, named as the flags of `opentelemetry-instrument` are; ``profiling_``, with which each begins, may be left
out.
What reads the file is opentelemetry-configuration (0.66b2), which also puts environment variables in.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple
from urllib.parse import quote

SECTION = "otel_profiling"

_VARIABLE = "OTEL_PROFILING_"
_FLAG = "profiling_"
_QUOTED = ("OTEL_PROFILING_HEADERS", "OTEL_PROFILING_LABELS")
"""Variables whose values are percent-encoded, so that a comma can be told from one that separates."""
_SHOWN_CHARACTERS = 80


class Section(NamedTuple):
    """What the file says of us."""

    texts: Mapping[str, str]
    """Name of a variable to what it would be set to."""
    is_disabled: bool
    """Whether the file disables the SDK."""
    problems: list[str]
    """A line for each name that nobody knows, and for each value of a kind that no setting has. They show no value."""


NOTHING = Section({}, False, [])


def flag(variable: str) -> str:
    """Return what a setting is called in the file."""
    return _FLAG + variable.removeprefix(_VARIABLE).lower()


def read(path: str, known: Collection[str]) -> Section:
    """Return what the configuration file at `path` says of us; nothing where it can't be read: then the SDK says why.

    Args:
        path: The value of ``OTEL_CONFIG_FILE``.
        known: Names of all variables.
    """
    try:
        from opentelemetry.configuration import load_config_file  # noqa: PLC0415 - only there where somebody installed it

        model: Any = load_config_file(path)
    except Exception:  # noqa: BLE001 - no such package, no such file, or none that fits the schema
        return NOTHING
    distribution = getattr(model, "distribution", None)
    ours = distribution.get(SECTION) if isinstance(distribution, dict) else None
    return _section(ours if isinstance(ours, dict) else {}, known, is_disabled=getattr(model, "disabled", None) is True)


def _section(entries: Mapping[Any, Any], known: Collection[str], *, is_disabled: bool) -> Section:
    texts: dict[str, str] = {}
    problems: list[str] = []
    for key, value in entries.items():
        name = str(key)
        variable = _VARIABLE + name.removeprefix(_FLAG).upper()
        if variable not in known:
            shown = ascii(name[:_SHOWN_CHARACTERS])[1:-1]
            problems.append(f"{shown} is no setting and has no effect; did you mean {flag(nearest(variable, known))}?")
            continue
        try:
            texts[variable] = _text(value, quoted=variable in _QUOTED)
        except ValueError as error:
            problems.append(f"{flag(variable)}: {error}; as if it were not there")
    return Section(texts, is_disabled, problems)


def nearest(name: str, known: Collection[str]) -> str:
    """Return the name among `known` that looks most like `name`."""
    import difflib  # noqa: PLC0415 - start-up cost, and hardly anybody needs it

    return difflib.get_close_matches(name, known, n=1, cutoff=0.0)[0]


def _text(value: object, *, quoted: bool) -> str:
    """Return what a variable would be set to for a value of the file; empty for none.

    Raises:
        ValueError: it is of no kind that a setting has.
    """
    if isinstance(value, Mapping):
        return ",".join(_pair(_scalar(name), _scalar(entry), quoted=quoted) for name, entry in value.items())
    if isinstance(value, (list, tuple)):
        return ",".join(map(_scalar, value))
    return _scalar(value)


def _pair(name: str, value: str, *, quoted: bool) -> str:
    if "," in name or (not quoted and "," in value):
        raise ValueError("expected names without a comma")
    if quoted:
        return f"{name}={quote(value, safe=' ')}"
    return f"{name}={value}" if value else name


def _scalar(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (str, int, float)):
        return str(value)
    raise ValueError("expected a text, a number, true or false, a list of them, or a mapping of names to them")
