"""What can be seen of the application without running it: its frameworks, and what its own file does that changes profiles."""

from __future__ import annotations

import ast
import importlib.metadata
import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from .finding import Finding, Level
from .target import Target

FRAMEWORKS = {
    "aio-pika": ("aio_pika", "aio-pika"),
    "aiohttp": ("aiohttp", "aiohttp-server"),
    "aiokafka": ("aiokafka", "aiokafka"),
    "celery": ("celery", "celery"),
    "confluent-kafka": ("confluent_kafka", "confluent_kafka"),
    "django": ("django", "django"),
    "falcon": ("falcon", "falcon"),
    "fastapi": ("fastapi", "fastapi"),
    "flask": ("flask", "flask"),
    "grpcio": ("grpc", "grpc_server"),
    "kafka-python": ("kafka", "kafka"),
    "pika": ("pika", "pika"),
    "pyramid": ("pyramid", "pyramid"),
    "remoulade": ("remoulade", "remoulade"),
    "starlette": ("starlette", "starlette"),
    "tornado": ("tornado", "tornado"),
}
"""Distribution of a framework whose work begins in spans, to the module that it is imported as, and the entry point of the
instrumentation that starts them (opentelemetry-python-contrib 0.66b1)."""

WITHOUT = ("arq", "bottle", "dramatiq", "quart", "robyn", "rq", "sanic")
"""Modules of frameworks for which opentelemetry-python-contrib has no instrumentation (0.66b1)."""

_EXPORTERS_OWN = "grpcio"
"""Comes with OpenTelemetry's exporter, so that only what imports it has a service of it."""

_AUTO_INSTRUMENTATION = "opentelemetry.instrumentation.auto_instrumentation"
_GEVENT_PATCH = "OTEL_PYTHON_AUTO_INSTRUMENTATION_EXPERIMENTAL_GEVENT_PATCH"
_OWN_AGENT = "the application's own Pyroscope agent"


def findings(target: Target, told: Mapping[str, Any]) -> Iterator[Finding]:
    """Yield what the frameworks and the file of the application mean for profiles."""
    script = target.script
    calls = calls_in(script) if script else {}
    if told:
        yield from _frameworks(told, target, calls)
    yield from _gevent(target, calls)
    if line := calls.get("pyroscope.configure"):
        yield Finding(
            _OWN_AGENT,
            Level.WARNING,
            f"{script}:{line} starts Pyroscope itself.",
            "Its agent replaces ours, with its own server, name and settings; span labels stay.",
            "Take that call out, or say OTEL_PROFILING_AGENT_ENABLED=false so that ours is not started first.",
        )
    yield from _click(target, told, calls)


def _frameworks(told: Mapping[str, Any], target: Target, imports: Collection[str]) -> Iterator[Finding]:
    installed, instrumentations = told["distributions"], told["instrumentations"]
    there = [name for name in FRAMEWORKS if name in installed]
    # FastAPI is instrumented as itself, and brings Starlette.
    if "fastapi" in there and "starlette" in there:
        there.remove("starlette")
    disabled = _disabled(target)
    for name in there:
        module, instrumentation = FRAMEWORKS[name]
        # Installed is not used: what imports it is sure to.
        is_used = f"import {module}" in imports
        if name == _EXPORTERS_OWN and not is_used:
            continue
        level = Level.WARNING if is_used else Level.NOTE
        lost = f"{'Its' if is_used else 'If the application uses it, its'} requests have no spans, and their samples no labels."
        if instrumentation not in instrumentations:
            yield Finding(
                "instrumentation",
                level,
                f"{name} is installed, and its instrumentation is not.",
                lost,
                "opentelemetry-bootstrap -a install",
            )
        elif instrumentation in disabled or "*" in disabled:
            yield Finding(
                "instrumentation",
                level,
                f"OTEL_PYTHON_DISABLED_INSTRUMENTATIONS leaves that of {name} out.",
                lost,
                "Take it out of that variable.",
            )
        else:
            yield Finding("instrumentation", Level.OK, f"{name} is instrumented")
    for name in WITHOUT:
        if f"import {name}" in imports:
            yield Finding(
                "instrumentation",
                Level.NOTE,
                f"the application uses {name}, for which OpenTelemetry has no instrumentation.",
                "Its requests have spans, and their samples labels, only where the application or a middleware starts them.",
                "For one that speaks ASGI or WSGI: opentelemetry-instrumentation-asgi or -wsgi, around its application.",
            )


def _gevent(target: Target, calls: Mapping[str, int]) -> Iterator[Finding]:
    if target.environ.get(_GEVENT_PATCH):
        return
    line = calls.get("gevent.monkey.patch_all")
    if line is None and not _has_gevent_worker(target):
        return
    where = f"{target.script}:{line} patches" if line is not None else "the gevent worker patches"
    yield Finding(
        "gevent",
        Level.WARNING,
        f"{where} the standard library after opentelemetry-instrument has imported it: too late.",
        "Locks and sockets that are there already block all greenlets: spans may be sent late, and requests may hang.",
        f"{_GEVENT_PATCH}=patch_all patches before everything else.",
    )


def _has_gevent_worker(target: Target) -> bool:
    """Whether gunicorn or Celery is told to work on gevent: on the command line, by a variable, or in gunicorn's own file."""
    command = " ".join([*target.command, target.environ.get("GUNICORN_CMD_ARGS", "")])
    if re.search(r"(?:^|\s)(?:-k\s*|--worker-class[ =]|-P\s*|--pool[ =])gevent", command):
        return True
    if not any(Path(word).name == "gunicorn" for word in target.command):
        return False
    named = re.search(r"(?:^|\s)(?:-c\s*|--config[ =])(?:file:)?(\S+)", command)
    try:
        text = Path(named[1] if named else "gunicorn.conf.py").read_text(errors="replace")
    except OSError:
        return False
    return re.search(r"^worker_class\s*=\s*[\"']gevent", text, re.MULTILINE) is not None


def _click(target: Target, told: Mapping[str, Any], calls: Mapping[str, int]) -> Iterator[Finding]:
    if not told or "click" not in told["instrumentations"] or _disabled(target) & {"click", "*"}:
        return
    program = Path(target.command[0]).name if target.command else ""
    if "import click" in calls or _is_click_program(program):
        yield Finding(
            "click",
            Level.WARNING,
            "the command is one of click's, and opentelemetry-instrumentation-click makes a span of all of it.",
            "Around a server that span lasts as long as the server, and all requests may share one trace. Each still has a "
            "profile of its own.",
            "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS=click",
        )


def _disabled(target: Target) -> set[str]:
    """Return which instrumentations are left out; ``*`` stands for all."""
    return {entry.strip() for entry in target.environ.get("OTEL_PYTHON_DISABLED_INSTRUMENTATIONS", "").split(",")}


def _is_click_program(program: str) -> bool:
    """Whether a program is the console script of a distribution that wants click."""
    for point in importlib.metadata.entry_points(group="console_scripts"):
        if point.name == program and point.dist is not None:
            return any(re.match(r"click\b", requirement) for requirement in point.dist.requires or ())
    return False


def instruments_itself(target: Target) -> bool:
    """Whether the application's file does what `opentelemetry-instrument` does, by a call of its ``initialize``."""
    script = target.script
    return script is not None and f"{_AUTO_INSTRUMENTATION}.initialize" in calls_in(script)


def calls_in(script: Path) -> dict[str, int]:
    """Return which functions of modules a file calls, by their full names, and which modules it imports, with the line of each.

    Only what stands there by name is seen: no file is run. An import is ``import`` and the module's name.
    """
    try:
        tree = ast.parse(script.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return {}
    aliases: dict[str, str] = {}
    found: dict[str, int] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for name in node.names:
                aliases[name.asname or name.name.partition(".")[0]] = name.name if name.asname else name.name.partition(".")[0]
                found.setdefault(f"import {name.name.partition('.')[0]}", node.lineno)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for name in node.names:
                aliases[name.asname or name.name] = f"{node.module}.{name.name}"
            found.setdefault(f"import {node.module.partition('.')[0]}", node.lineno)
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            first, _, rest = ast.unparse(node.func).partition(".")
            if first in aliases:
                found.setdefault(".".join(filter(None, [aliases[first], rest])), node.lineno)
    return found
