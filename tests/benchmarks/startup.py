"""What profiling adds to the start of a process under ``opentelemetry-instrument``, over upstream's distro.

Runs ``opentelemetry-instrument python -c pass`` with upstream's distro and with ours in turn; prints Markdown.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

CONFIGURATIONS = {
    "opentelemetry-distro": {
        "OTEL_PYTHON_DISTRO": "distro",
        "OTEL_PYTHON_CONFIGURATOR": "configurator",
        "OTEL_PROFILING_ENABLED": "false",
    },
    "otel-profiling-distro": {"OTEL_PYTHON_DISTRO": "profiling", "OTEL_PYTHON_CONFIGURATOR": "configurator"},
}


def started(variables: dict[str, str]) -> tuple[float, float]:
    """Return how long one process takes from start to end, and its CPU time, in seconds."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "PYROSCOPE_"))}
    inherited.pop("PYTHONDONTWRITEBYTECODE", None)  # what pip installs is compiled
    # No exporters: connecting to a collector is not what is measured. Nobody listens to the agent's upload at the end.
    none = dict.fromkeys(("OTEL_TRACES_EXPORTER", "OTEL_METRICS_EXPORTER", "OTEL_LOGS_EXPORTER"), "none")
    start = time.perf_counter()
    process = subprocess.Popen(
        [str(Path(sys.executable).parent / "opentelemetry-instrument"), sys.executable, "-c", "pass"],
        env={**inherited, **none, "OTEL_PROFILING_SERVER_ADDRESS": "http://127.0.0.1:9", **variables},
        stderr=subprocess.DEVNULL,
    )
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise SystemExit("the process failed")
    return time.perf_counter() - start, used.ru_utime + used.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15, help="processes started for each")
    rounds = parser.parse_args().rounds
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in CONFIGURATIONS}
    for variables in CONFIGURATIONS.values():
        started(variables)  # compiles what has changed
    for _ in range(rounds):
        for name, variables in CONFIGURATIONS.items():
            times[name].append(started(variables))
    print(f"Python {sys.version.split()[0]}, {rounds} processes each, `opentelemetry-instrument python -c pass`\n")
    print("| | opentelemetry-distro | otel-profiling-distro | added | ratio |")
    print("|---|---|---|---|---|")
    for kind, name in enumerate(("from start to end", "CPU time")):
        upstream, ours = (statistics.median(each[kind] for each in times[configuration]) for configuration in CONFIGURATIONS)
        added = (ours - upstream) * 1000
        print(f"| {name} | {upstream * 1000:.0f} ms | {ours * 1000:.0f} ms | {added:+.0f} ms | {ours / upstream:.2f} |")
    print()


if __name__ == "__main__":
    main()
