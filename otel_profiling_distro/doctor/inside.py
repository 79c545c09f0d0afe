"""Runs the probe where the application would run, and keeps what it said and what it sent."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from otel_profiling_distro.receiver.model import Sample, Span

from .loopback import Loopback
from .target import Target

_PROBE = Path(__file__).with_name("probe.py")
_SECONDS = 60.0
_TELLS = '{"python": '
"""What the probe's line begins with."""

_LEFT_OUT = (
    "OTEL_CONFIG_FILE",  # names exporters of its own
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL",
    "OTEL_EXPORTER_OTLP_HEADERS",
    "OTEL_EXPORTER_OTLP_TRACES_HEADERS",
    "OTEL_TRACES_SAMPLER",
    "OTEL_TRACES_SAMPLER_ARG",
    "OTEL_PROFILING_REPORT_SIGNAL",
    "OTEL_PROFILING_SAMPLE_RATE",  # of one sample a second none may be of the second that is worked
    "OTEL_PROFILING_TYPES",
    "OTEL_PROFILING_SPAN_ID_SCOPE",
    "OTEL_PROFILING_SPAN_NAME_SCOPE",
)
"""Looked at in other ways; the self-test asks whether what it sends arrives."""

SET = {
    "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
    "OTEL_TRACES_EXPORTER": "otlp",
    "OTEL_METRICS_EXPORTER": "none",
    "OTEL_LOGS_EXPORTER": "none",
    "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "*",
    # What is left for the exit has little time there, and a busy machine may take longer.
    "OTEL_PROFILING_UPLOAD_INTERVAL": "1s",
}
"""What the self-test sets itself, besides addresses."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of the probe."""

    told: Mapping[str, Any]
    """What it said, see `probe`; empty where it did not get that far."""
    errors: str
    """What it said on standard error."""
    samples: tuple[Sample, ...]
    spans: tuple[Span, ...]
    environ: Mapping[str, str]
    """In which it was started."""


def launcher(interpreter: str) -> Path:
    """Return the `opentelemetry-instrument` of an interpreter's environment, which may be missing."""
    return Path(interpreter).parent / "opentelemetry-instrument"


def environment(base: Mapping[str, str], receiver: str) -> dict[str, str]:
    """Return the environment of the probe: the application's, but what it sends comes to us."""
    result = {name: value for name, value in base.items() if name not in _LEFT_OUT}
    result |= SET
    result["OTEL_PROFILING_SERVER_ADDRESS"] = result["OTEL_EXPORTER_OTLP_ENDPOINT"] = receiver
    # Both spellings are read, by different clients; a proxy can't reach this machine's loopback.
    for name in ("NO_PROXY", "no_proxy"):
        result[name] = ",".join(filter(None, [result.get(name), "127.0.0.1", "localhost"]))
    return result


def run(target: Target) -> Outcome:
    """Run the probe once, to its end, and return what came of it. Never raises for what goes wrong there."""
    script = launcher(target.interpreter)
    start = (
        [str(script)] if script.exists() else [target.interpreter, "-m", "opentelemetry.instrumentation.auto_instrumentation"]
    )
    with Loopback() as receiver:
        environ = environment(target.environ, receiver.url)
        try:
            done = subprocess.run(
                [*start, target.interpreter, str(_PROBE)],
                env=environ,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=_SECONDS,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            return Outcome({}, str(error), (), (), environ)
        # A library for another C library ends the process without a word.
        ended = f"\nit was ended by signal {-done.returncode}" if done.returncode < 0 else ""
        return Outcome(_told(done.stdout), done.stderr + ended, tuple(receiver.samples()), tuple(receiver.spans()), environ)


def _told(output: str) -> Mapping[str, Any]:
    """Return the probe's line; an exporter to the console may have printed others, before and after."""
    for line in reversed(output.splitlines()):
        if line.startswith(_TELLS):
            told = json.loads(line)
            return told if isinstance(told, dict) else {}
    return {}
