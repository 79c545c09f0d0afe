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
_MAPPINGS = (*_QUOTED, "OTEL_PROFILING_RESOURCE_LABELS", "OTEL_PROFILING_BAGGAGE_KEYS")
_LISTS = (*_MAPPINGS, "OTEL_PROFILING_TYPES")
"""Variables that have several values. The others have one, which no list or mapping can be."""
_ALIKE = 0.8
"""How much another section's name is like ours where ours must have been meant."""
_SHOWN_CHARACTERS = 80


class Section(NamedTuple):
    """What the file says of us."""

    texts: Mapping[str, str]
    """Name of a variable to what it would be set to."""
    is_disabled: bool
    """Whether the file disables the SDK."""
    problems: list[str]
    """A line for each name that nobody knows, or that stands there twice. They show no value."""
    unfit: Mapping[str, str]
    """Name of a variable to what is wrong with its value, of a kind that the setting does not have. It shows no value."""


NOTHING = Section({}, False, [], {})


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
    sections = distribution if isinstance(distribution, dict) else {}
    ours = sections.get(SECTION)
    is_disabled = getattr(model, "disabled", None) is True
    if isinstance(ours, dict):
        return _section(ours, known, is_disabled=is_disabled)
    return Section({}, is_disabled, _misspelt(sections), {})


def _misspelt(sections: Mapping[Any, Any]) -> list[str]:
    """Return a line for a section that must have been meant for us, where there is none of our name."""
    import difflib  # noqa: PLC0415 - as below

    found = difflib.get_close_matches(SECTION, map(str, sections), n=1, cutoff=_ALIKE)
    return [f"distribution {_shown(name)} has no effect; did you mean {SECTION}?" for name in found]


def _section(entries: Mapping[Any, Any], known: Collection[str], *, is_disabled: bool) -> Section:
    section = Section({}, is_disabled, [], {})
    texts: dict[str, str] = {}
    unfit: dict[str, str] = {}
    for key, value in entries.items():
        name = str(key)
        variable = _VARIABLE + name.removeprefix(_FLAG).upper()
        if variable not in known:
            near = flag(nearest(variable, known))
            section.problems.append(f"{_shown(name)} is no setting and has no effect; did you mean {near}?")
        elif variable in texts or variable in unfit:
            section.problems.append(f"{_shown(name)} has no effect: {flag(variable)} stands there twice, and the first counts")
        else:
            try:
                texts[variable] = _text(value, variable)
            except ValueError as error:
                unfit[variable] = str(error)
    return section._replace(texts=texts, unfit=unfit)


def _shown(name: str) -> str:
    return ascii(name[:_SHOWN_CHARACTERS])[1:-1]


def nearest(name: str, known: Collection[str]) -> str:
    """Return the name among `known` that looks most like `name`."""
    import difflib  # noqa: PLC0415 - start-up cost, and hardly anybody needs it

    return difflib.get_close_matches(name, known, n=1, cutoff=0.0)[0]


def _text(value: object, variable: str) -> str:
    """Return what a variable would be set to for a value of the file; empty for none.

    Raises:
        ValueError: it is of no kind that the setting has.
    """
    if isinstance(value, Mapping) and variable in _MAPPINGS:
        return ",".join(_pair(_scalar(name), _scalar(entry), quoted=variable in _QUOTED) for name, entry in value.items())
    if isinstance(value, (list, tuple)) and variable in _LISTS:
        return ",".join(map(_scalar, value))
    if isinstance(value, (Mapping, list, tuple)):
        raise ValueError("expected one value")  # noqa: TRY004 - the kind of error that all of these have
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
