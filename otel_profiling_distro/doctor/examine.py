"""Asks all the questions, in the order in which an answer makes the next one worth asking."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from . import application, distro, effective, environment, form, inside, names_agree, process, self_test, server, traces
from .finding import Finding, Level, Report
from .target import target_of


def examine(command: Sequence[str], environ: Mapping[str, str]) -> Report:
    """Return whether profiles would arrive from a command in this environment, and what stands in their way.

    Args:
        command: The command and its arguments, which is not run; empty for whatever runs on this interpreter.
        environ: The environment that it would have.
    """
    target = target_of(command, environ)
    reading = effective.read(target.environ)
    outcome = inside.run(target)
    found = [*environment.findings(outcome), *effective.findings(reading)]
    if target.missing:
        found.append(
            Finding(
                "command",
                Level.FAULT,
                f"there is no {target.missing}, seen from {Path.cwd()}.",
                "The application does not start.",
                "Is it the command with which the application is started, in the folder and with the PATH that it has then?",
            )
        )
    if command and not (target.is_instrumented or application.instruments_itself(target)):
        found.append(
            Finding(
                "command",
                Level.FAULT if target.is_python else Level.NOTE,
                "opentelemetry-instrument does not stand before the command.",
                "As it stands nothing is profiled"
                + ("." if target.is_python else ", unless the program starts Python under opentelemetry-instrument itself."),
                f"opentelemetry-instrument {' '.join(target.command)}",
            )
        )
    found += distro.findings(outcome)
    found += form.findings(outcome, agent_starts=reading.settings.enabled and reading.settings.agent_enabled)
    found += self_test.findings(outcome, reading.settings)
    found += server.findings(reading.settings, target.environ)
    found += names_agree.findings(target.environ, reading.settings)
    found += traces.findings(target.environ, has_file=bool(names_agree.model_of_file(target.environ)))
    found += application.findings(target, outcome.told)
    return Report(found, effective.settings(reading))


def examine_process(pid: int) -> Report:
    """Return what can be seen of a running process from outside."""
    return process.examine(pid)
