"""Finds out what is to be examined: which interpreter a command would run on, in which environment, and which of its files.

What stands before the command, `opentelemetry-instrument` and its flags, is taken as it would take it. So is what starts
that: variables, as `env` and shells have them, and programs such as `tini --` or `poetry run`.
"""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_INSTRUMENT = "opentelemetry-instrument"
_INJECTED = os.path.join("opentelemetry", "instrumentation", "auto_instrumentation")  # noqa: PTH118 - a part of a path
"""Folder on `PYTHONPATH` by which a process is instrumented without a command, as the operator does it."""
_SHEBANG_BYTES = 512
_ASSIGNMENT = re.compile(r"([A-Za-z_]\w*)=(.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Target:
    """What is examined."""

    command: tuple[str, ...]
    """Without `opentelemetry-instrument`; empty for none."""
    environ: Mapping[str, str]
    """With what its flags set."""
    interpreter: str
    """Path, as it is called: a virtual environment's is a link."""
    is_instrumented: bool
    """Whether `opentelemetry-instrument` stands in the command, or the environment does what it does, as the operator's."""
    is_python: bool = True
    """Whether the command itself is known to run an interpreter: a shell's script may start one in any way."""

    @property
    def missing(self) -> str:
        """What the command names and nobody finds: a program, or the file that an interpreter is to run; empty for nothing."""
        if not self.command:
            return ""
        program, *arguments = self.command
        if shutil.which(program, path=self.environ.get("PATH")) is None:
            return f"program {program}"
        if _is_interpreter(program) and arguments and not arguments[0].startswith("-") and not Path(arguments[0]).exists():
            return f"file {arguments[0]}"
        return ""

    @property
    def script(self) -> Path | None:
        """The Python file that the command names; None where that is none."""
        if not self.command:
            return None
        for argument in self.command[1:]:
            path = Path(argument)
            if path.suffix == ".py" and path.is_file():
                return path
            module = argument.partition(":")[0]
            candidate = Path(*module.split(".")).with_suffix(".py") if module.replace(".", "").isidentifier() else None
            if candidate is not None and candidate.is_file():
                return candidate
        return None


def target_of(command: Sequence[str], environ: Mapping[str, str]) -> Target:
    """Return what `command` would run on; an empty one runs on this interpreter."""
    variables = dict(environ)
    rest = list(command)
    if rest and Path(rest[0]).name == "env":
        del rest[0]
    while rest and (assigned := _ASSIGNMENT.fullmatch(rest[0])):
        variables[assigned[1]] = assigned[2]
        del rest[0]
    begin = next((place for place, word in enumerate(rest) if Path(word).name == _INSTRUMENT), None)
    is_instrumented = begin is not None
    if begin is not None:
        del rest[: begin + 1]
        while rest and rest[0].startswith("--"):
            flag, separator, value = rest.pop(0)[2:].partition("=")
            if not separator and rest:
                value = rest.pop(0)
            variables[_variable(flag)] = value
    is_injected = any(_INJECTED in folder for folder in variables.get("PYTHONPATH", "").split(os.pathsep))
    interpreter = _interpreter(rest, variables)
    return Target(tuple(rest), variables, interpreter or sys.executable, is_instrumented or is_injected, bool(interpreter))


def _variable(flag: str) -> str:
    """Return the variable that a flag sets. Upstream makes flags of names without ``OTEL_`` or ``OTEL_PYTHON_``."""
    for point in importlib.metadata.entry_points(group="opentelemetry_environment_variables"):
        for name in dir(point.load()):
            if name.startswith("OTEL_") and re.sub(r"OTEL_(PYTHON_)?", "", name).lower() == flag:
                return name
    return f"OTEL_{flag.upper()}"


def _interpreter(command: Sequence[str], environ: Mapping[str, str]) -> str:
    """Return the interpreter that a command names, or that its script does in its first line; empty where neither does."""
    found = shutil.which(command[0], path=environ.get("PATH")) if command else None
    if found is None:
        return ""
    if _is_interpreter(found):
        return found
    try:
        with Path(found).open("rb") as file:
            first = file.read(_SHEBANG_BYTES).partition(b"\n")[0]
    except OSError:
        return ""
    if not first.startswith(b"#!"):
        return ""
    words = first[2:].decode(errors="replace").split()
    if words and Path(words[0]).name == "env":
        words = [shutil.which(words[1], path=environ.get("PATH")) or ""] if words[1:] else []
    return words[0] if words and _is_interpreter(words[0]) else ""


def _is_interpreter(program: str) -> bool:
    return Path(program).name.startswith("python")
