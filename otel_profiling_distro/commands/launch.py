"""Says how a command is run so that it is profiled here: under `opentelemetry-instrument`, with variables that point to us."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_INTERPRETER = "python"
_LAUNCHER = """\
import sys
if sys.path[:1] == [""]:
    del sys.path[0]
import signal
from opentelemetry.instrumentation.auto_instrumentation import run
for number in (signal.SIGPIPE, signal.SIGXFSZ):
    signal.signal(number, signal.SIG_DFL)
run()
"""
"""`opentelemetry-instrument`, which becomes the command. Python ignores two signals, so would whatever it becomes: a program
that is no Python would not end when nobody reads its output any more. Nothing is imported from the user's folder."""
_DEFAULTS = {
    "OTEL_METRICS_EXPORTER": "none",
    "OTEL_LOGS_EXPORTER": "none",
    # The page follows; an upload on this machine costs little.
    "OTEL_PROFILING_UPLOAD_INTERVAL": "2s",
    # And little is lost where a process ends without a flush of its spans, as uvicorn's workers do.
    "OTEL_BSP_SCHEDULE_DELAY": "250",
}
_LOG_HANDLER = "OTEL_PYTHON_LOG_AUTO_INSTRUMENTATION"
_ALSO = {"OTEL_PROFILING_UPLOAD_INTERVAL": ("PYROSCOPE_UPLOAD_INTERVAL",)}
"""Other names of a setting, by which a user may have set it."""


def launcher() -> list[str]:
    """Return what runs a command under `opentelemetry-instrument`, of this interpreter: the command is to follow."""
    return [sys.executable, "-c", _LAUNCHER]


@dataclass(frozen=True, slots=True)
class Environment:
    """The environment of a command, and what to tell the user of it."""

    variables: dict[str, str]
    service: str
    """Under this name it will be shown."""
    elsewhere: tuple[str, ...]
    """One line for each setting of the user by which something does not come here."""


def environment(base: Mapping[str, str], command: Sequence[str], receiver: str) -> Environment:
    """Return the environment in which `command` sends to `receiver`. What the user has set stays.

    Args:
        base: The environment to start from.
        command: The command and its arguments.
        receiver: URL of the receiver.
    """
    result = dict(base)
    elsewhere: list[str] = []
    for name, value in _DEFAULTS.items():
        if not any(result.get(known) for known in (name, *_ALSO.get(name, ()))):
            result[name] = value
    if result["OTEL_LOGS_EXPORTER"] == "none" and not result.get(_LOG_HANDLER):
        # Its handler would hand records to nobody, and on CPython 3.12.0 to 3.12.2 ends each process with a traceback
        # (opentelemetry-python issue 4752).
        result[_LOG_HANDLER] = "false"

    if own := _first(base, "OTEL_PROFILING_SERVER_ADDRESS", "PYROSCOPE_SERVER_ADDRESS"):
        elsewhere.append(f"profiles go to {base[own]}, as {own} says, and not here")
    else:
        result["OTEL_PROFILING_SERVER_ADDRESS"] = receiver

    if own := _first(base, "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"):
        elsewhere.append(f"traces go to {base[own]}, as {own} says, and not here")
    elif (own := _first(base, "OTEL_TRACES_EXPORTER")) and base[own] not in {"otlp", "otlp_proto_http"}:
        elsewhere.append(f"traces don't come here, as {own}={base[own]} says")
    else:
        result["OTEL_EXPORTER_OTLP_ENDPOINT"] = receiver
        own = _first(base, "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
        if own is None:
            result["OTEL_EXPORTER_OTLP_PROTOCOL"] = "http/protobuf"
        elif base[own] != "http/protobuf":
            elsewhere.append(f"traces don't come here, as {own}={base[own]} says: only http/protobuf is understood")

    service = _service(base)
    if service is None:
        service = result["OTEL_SERVICE_NAME"] = name_of(command)
    # Both spellings are read, by different clients; a proxy can't reach this machine's loopback.
    for name in ("NO_PROXY", "no_proxy"):
        result[name] = ",".join(filter(None, [result.get(name), "127.0.0.1", "localhost"]))
    return Environment(result, service, tuple(elsewhere))


def _first(variables: Mapping[str, str], *names: str) -> str | None:
    return next((name for name in names if variables.get(name)), None)


def _service(variables: Mapping[str, str]) -> str | None:
    if name := variables.get("OTEL_SERVICE_NAME"):
        return name
    for pair in variables.get("OTEL_RESOURCE_ATTRIBUTES", "").split(","):
        key, _, value = pair.partition("=")
        if key.strip() == "service.name" and value.strip():
            return value.strip()
    return None


def name_of(command: Sequence[str]) -> str:
    """Return what to call the service that `command` is: the script or module that Python runs, or else the program."""
    program = Path(command[0]).name
    if program.startswith(_INTERPRETER):
        rest = iter(command[1:])
        for argument in rest:
            if argument == "-m":
                return next(rest, program)
            if argument in {"-W", "-X"}:
                next(rest, None)
            elif argument == "-c":
                break
            elif not argument.startswith("-"):
                return Path(argument).stem
    return program
