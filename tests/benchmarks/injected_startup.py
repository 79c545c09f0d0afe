"""How much longer a Python takes to start with the image's tree in it, with and without compiled files.

A tree that was copied into a container has no compiled files, and the application's user may not write them: each start
compiles what it imports. PYTHONPYCACHEPREFIX is the remedy.
"""

import os
import resource
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

IMAGE = Path(__file__).parents[2] / "build" / "image" / "amd64" / "autoinstrumentation"
ROUNDS = 5


def start(**variables: str) -> float:
    """Return the CPU time in milliseconds that an interpreter takes to start, do nothing and end."""
    environment = {
        **os.environ,
        "OTEL_TRACES_EXPORTER": "none",
        "OTEL_METRICS_EXPORTER": "none",
        "OTEL_LOGS_EXPORTER": "none",
        "OTEL_PROFILING_SERVER_ADDRESS": "http://127.0.0.1:9",
        **variables,
    }
    before = cpu_time_of_children()
    subprocess.run([sys._base_executable, "-c", "pass"], env=environment, check=True, capture_output=True)
    return (cpu_time_of_children() - before) * 1000


def cpu_time_of_children() -> float:
    """Return it in seconds."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    """Print the medians."""
    with tempfile.TemporaryDirectory() as folder:
        # A copy, as in a pod: what runs there may not change what was verified.
        tree, cache = shutil.copytree(IMAGE, Path(folder) / "tree"), f"{folder}/cache"
        injected = {"PYTHONPATH": f"{tree}/opentelemetry/instrumentation/auto_instrumentation:{tree}"}
        cases = {
            "without": {},
            "injected, nothing compiled": {**injected, "PYTHONDONTWRITEBYTECODE": "1"},
            "injected, PYTHONPYCACHEPREFIX": {**injected, "PYTHONPYCACHEPREFIX": cache, "PYTHONDONTWRITEBYTECODE": ""},
        }
        for name, variables in cases.items():
            start(**variables)
            print(f"{name}: {median(start(**variables) for _ in range(ROUNDS)):.0f} ms of CPU time", flush=True)


if __name__ == "__main__":
    main()
