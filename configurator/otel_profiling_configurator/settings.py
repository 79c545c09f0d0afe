"""Reads the environment, once, into a `Settings`: the only place that looks at it.

What the SDK's configuration file says of us, where it has one, wins over the variable `OTEL_PROFILING_X`, which wins over the
`PYROSCOPE_X` that Grafana's other agents read, which wins over the default. A value that makes no sense never stops the
application: the next in that line is used, and a warning names the variable, the value (unless it may be a secret) and what is
used instead.
"""

from __future__ import annotations

import dataclasses
import logging
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar
from urllib.parse import unquote

from . import configuration_file, parsers
from . import environment_variables as names
from .spans.scope import Scope

T = TypeVar("T")

SDK_DISABLED = "OTEL_SDK_DISABLED"
CONFIG_FILE = "OTEL_CONFIG_FILE"
RESOURCE_ATTRIBUTES = "OTEL_RESOURCE_ATTRIBUTES"
PREFIX = "OTEL_PROFILING_"

MAX_LABELS = 16
"""Most static labels we send. Pyroscope rejects a series of more than 30, and the agent and the server add their own."""

_SHOWN_CHARACTERS = 80
"""How much of a bad value a warning quotes."""

_CREDENTIALS = r"//[^/]*@"


@dataclasses.dataclass(frozen=True)
class Settings:
    """What the environment asks for. Secrets are left out of ``repr``."""

    enabled: bool = True
    """False: do nothing but report at the signal (``OTEL_SDK_DISABLED=true`` means that too)."""
    span_id_scope: Scope = Scope.ROOT
    span_name_scope: Scope = Scope.ROOT
    agent_enabled: bool = True
    """False: only label; the application starts Pyroscope itself."""
    server_address: str = dataclasses.field(default="http://localhost:4040", repr=False)
    """May contain a user and password; `shown_server_address` does not."""
    application_name: str | None = None
    """None: the resource's ``service.name``."""
    basic_auth_user: str = ""
    basic_auth_password: str = dataclasses.field(default="", repr=False)
    tenant_id: str = ""
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict, repr=False)
    labels: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Static labels of every profile."""
    resource_labels: Mapping[str, str] | None = None
    """Resource attribute to label name; None: the default list (see `resource_labels`)."""
    baggage_keys: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Key of a baggage entry to label name."""
    types: tuple[str, ...] = ("cpu",)
    sample_rate: int = 100
    """Samples a second."""
    upload_interval: int = 10
    """Seconds between uploads."""
    gil_only: bool | None = None
    """None: threads are sampled by their CPU clocks, where that can be had. True: only threads that hold the GIL, as
    pyroscope-io does by default. False: threads that the kernel calls runnable."""
    aliases: bool = True
    """Whether the agent's library may be led to find labels by aliases (see `native/agent_library.c`); False: by thread."""
    thread_context: bool = True
    """Whether profilers outside the process are told the current span of each thread (see `context/thread_context.py`)."""
    log_level: int = logging.WARNING
    """A `logging` level, for this package."""
    report_signal: int | None = None
    """Number of the signal at which the process reports on itself; None: at none."""
    instance_id: str = ""
    """The ``service.instance.id`` that ``OTEL_RESOURCE_ATTRIBUTES`` names; empty for none."""

    @property
    def shown_server_address(self) -> str:
        """The server's address without the user and password that a URL may contain."""
        return re.sub(_CREDENTIALS, "//***@", self.server_address)


class Reading(NamedTuple):
    """What the environment asks for, and how that was found out."""

    settings: Settings
    warnings: list[str]
    """One for each value that makes no sense, and for each name that nobody knows."""
    sources: Mapping[str, str]
    """Name of an ``OTEL_PROFILING_`` variable to where its value comes from: a variable, or a file and the name there. What has
    its default is not among them."""


def read(environ: Mapping[str, str]) -> tuple[Settings, list[str]]:
    """Return the settings that `environ` asks for, and a warning for each value that makes no sense."""
    reading = read_with_sources(environ)
    return reading.settings, reading.warnings


def read_with_sources(environ: Mapping[str, str]) -> Reading:
    """Return the settings that `environ` asks for, and where each comes from."""
    file = environ.get(CONFIG_FILE, "").strip()
    reader = _Reader(environ, configuration_file.read(file, set(names.DEFAULTS)) if file else configuration_file.NOTHING, file)
    values: dict[str, Any] = {
        "enabled": reader.enabled(),
        "span_id_scope": reader.get(Scope.parse, names.OTEL_PROFILING_SPAN_ID_SCOPE),
        "span_name_scope": reader.get(Scope.parse, names.OTEL_PROFILING_SPAN_NAME_SCOPE),
        "agent_enabled": reader.get(parsers.boolean, names.OTEL_PROFILING_AGENT_ENABLED),
        "server_address": reader.get(parsers.address, names.OTEL_PROFILING_SERVER_ADDRESS, "PYROSCOPE_SERVER_ADDRESS"),
        "application_name": reader.get(parsers.utf8, names.OTEL_PROFILING_APPLICATION_NAME, "PYROSCOPE_APPLICATION_NAME"),
        "basic_auth_user": reader.get(parsers.credential, names.OTEL_PROFILING_BASIC_AUTH_USER, "PYROSCOPE_BASIC_AUTH_USER"),
        "basic_auth_password": reader.get(
            parsers.credential, names.OTEL_PROFILING_BASIC_AUTH_PASSWORD, "PYROSCOPE_BASIC_AUTH_PASSWORD", secret=True
        ),
        "tenant_id": reader.get(parsers.header_value, names.OTEL_PROFILING_TENANT_ID, "PYROSCOPE_TENANT_ID"),
        "headers": reader.headers(),
        "labels": reader.labels(),
        "resource_labels": reader.get(parsers.renames, names.OTEL_PROFILING_RESOURCE_LABELS),
        "baggage_keys": reader.get(parsers.baggage_keys, names.OTEL_PROFILING_BAGGAGE_KEYS),
        "types": reader.get(parsers.types, names.OTEL_PROFILING_TYPES),
        "sample_rate": reader.get(parsers.sample_rate, names.OTEL_PROFILING_SAMPLE_RATE),
        "upload_interval": reader.get(parsers.seconds, names.OTEL_PROFILING_UPLOAD_INTERVAL, "PYROSCOPE_UPLOAD_INTERVAL"),
        "gil_only": reader.get(parsers.boolean, names.OTEL_PROFILING_GIL_ONLY),
        "aliases": reader.get(parsers.boolean, names.OTEL_PROFILING_ALIASES),
        "thread_context": reader.get(parsers.boolean, names.OTEL_PROFILING_THREAD_CONTEXT),
        "log_level": reader.get(parsers.log_level, names.OTEL_PROFILING_LOG_LEVEL),
        "report_signal": reader.get(parsers.report_signal, names.OTEL_PROFILING_REPORT_SIGNAL),
    }
    values["instance_id"] = _instance_id(environ.get(RESOURCE_ATTRIBUTES, ""))
    reader.warn_of_unknown_names()
    wanted = Settings(**{name: value for name, value in values.items() if value is not None})
    return Reading(wanted, reader.warnings, reader.sources)


class _Reader:
    """Looks settings up in order of precedence and collects what to warn about."""

    def __init__(self, environ: Mapping[str, str], section: configuration_file.Section, file: str) -> None:
        self._environ = environ
        self._section = section
        self._file = _shown(file if len(file) <= _SHOWN_CHARACTERS else f"...{file[-_SHOWN_CHARACTERS + 3 :]}")
        self.warnings = [f"{self._file}: {problem}" for problem in section.problems]
        self.sources: dict[str, str] = {}

    def get(self, parse: Callable[[str], T], *variables: str, secret: bool = False) -> T | None:
        """Return the first of `variables` that is set and makes sense; None: use the default."""
        texts = self._texts(*variables)
        for position, (source, text) in enumerate(texts):
            try:
                value = parse(text)
            except ValueError as error:
                hidden = secret or (parse is parsers.address and "@" in text)  # user:password@host, however misspelt
                instead = self._instead(texts[position + 1 :], variables[0])
                self._warn(source, "***" if hidden else text, f"{error}; using {instead}")
            else:
                self.sources[variables[0]] = source
                return value
        return None

    def _texts(self, *variables: str) -> list[tuple[str, str]]:
        """Return where a setting is set and to what, in order of precedence. OpenTelemetry's rule: empty is unset."""
        in_file = f"{self._file}: {configuration_file.flag(variables[0])}"
        sources = [(in_file, self._section.texts.get(variables[0], ""))]
        sources += [(variable, self._environ.get(variable, "")) for variable in variables]
        texts = [(source, text.strip()) for source, text in sources if text.strip()]
        if problem := self._section.unfit.get(variables[0]):
            self.warnings.append(f"{in_file}: {problem}; using {self._instead(texts, variables[0])}")
        return texts

    def _instead(self, texts: list[tuple[str, str]], variable: str) -> str:
        return texts[0][0] if texts else f"the default ({names.DEFAULTS[variable]})"

    def enabled(self) -> bool:
        """Return whether anything is to be done; what disables the SDK disables us, too."""
        variable = names.OTEL_PROFILING_ENABLED
        enabled = self.get(parsers.boolean, variable) is not False
        if self._section.is_disabled:
            self.sources[variable] = f"{self._file}: disabled"
        elif self._environ.get(SDK_DISABLED, "").strip().lower() == "true":
            self.sources[variable] = SDK_DISABLED
        else:
            return enabled
        return False

    def headers(self) -> Mapping[str, str] | None:
        """Return the headers; entries that make no sense are left out, each with a warning that shows no value."""
        variable = names.OTEL_PROFILING_HEADERS
        for source, text in self._texts(variable):
            self.sources[variable] = source
            return self._pairs(
                source, text, "=", parsers.header_name, lambda value: parsers.header_value(unquote(value)), secret=True
            )
        text = self._environ.get("PYROSCOPE_HTTP_HEADERS", "").strip()
        try:
            headers = parsers.json_headers(text) if text else None
        except ValueError as error:
            self._warn("PYROSCOPE_HTTP_HEADERS", "***", f"{error}; using the default ({names.DEFAULTS[variable]})")
            return None
        if headers is not None:
            self.sources[variable] = "PYROSCOPE_HTTP_HEADERS"
        return headers

    def labels(self) -> Mapping[str, str] | None:
        """Return the static labels; entries that make no sense are left out, each with a warning."""
        variable = names.OTEL_PROFILING_LABELS
        for source, text in self._texts(variable, "PYROSCOPE_LABELS"):
            # Grafana's Java agent writes k=v, its .NET agent k:v.
            separators = "[=:]" if source == "PYROSCOPE_LABELS" else "="
            labels = self._pairs(source, text, separators, parsers.label_name, unquote)
            for name in list(labels)[MAX_LABELS:]:
                self._warn(source, name, f"more than {MAX_LABELS} labels; left out")
                del labels[name]
            self.sources[variable] = source
            return labels
        return None

    def warn_of_unknown_names(self) -> None:
        """Warn of each variable that begins as ours do and is none of them: misspelt, it would be without effect in silence."""
        for variable in sorted(name for name in self._environ if name.startswith(PREFIX) and name not in names.DEFAULTS):
            # Its value may be a secret, and a name may be anything.
            nearest = configuration_file.nearest(variable, names.DEFAULTS)
            self.warnings.append(f"{_shown(variable)} is no setting and has no effect; did you mean {nearest}?")

    def _pairs(
        self,
        variable: str,
        text: str,
        separator: str,
        parse_name: Callable[[str], str],
        parse_value: Callable[[str], str],
        *,
        secret: bool = False,
    ) -> dict[str, str]:
        pairs = {}
        for number, entry in enumerate(filter(None, map(str.strip, text.split(","))), start=1):
            try:
                name, *value = re.split(separator, entry, maxsplit=1)
                if not value:
                    raise ValueError("expected name=value")
                pairs[parse_name(name)] = parse_value(value[0].strip())
            except ValueError as error:
                self._warn(variable, f"entry {number}" if secret else entry, f"{error}; left out")
        return pairs

    def _warn(self, variable: str, value: str, problem: str) -> None:
        if len(value) > _SHOWN_CHARACTERS:
            value = value[:_SHOWN_CHARACTERS] + "..."
        # ascii(): no control character or lone surrogate of a hostile value reaches a terminal or breaks a log handler.
        self.warnings.append(f"{variable}={value!a}: {problem}")


def _shown(name: str) -> str:
    """Return the name of a variable as a warning shows it, see `_Reader._warn`."""
    return ascii(name)[1:-1] if len(name) <= _SHOWN_CHARACTERS else ascii(name[:_SHOWN_CHARACTERS])[1:-1] + "..."


def _instance_id(attributes: str) -> str:
    """Return the instance id in the value of ``OTEL_RESOURCE_ATTRIBUTES``, read as the SDK reads it; empty for none."""
    found = ""
    for entry in attributes.split(","):
        name, _, value = entry.partition("=")
        if name.strip() == "service.instance.id":
            found = unquote(value.strip())
    return found
