"""How much longer a Python takes to start with the image's tree in it, with and without compiled files.

A tree that was copied into a container has no compiled files, and the application's user may not write them: each start
compiles what it imports. PYTHONPYCACHEPREFIX is the remedy.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

TREE = Path(__file__).parents[2] / "build" / "image" / "amd64" / "autoinstrumentation"
ROUNDS = 7


def start(**variables: str) -> float:
    """Return the milliseconds that an interpreter takes to start, do nothing and end."""
    environment = {
        **os.environ,
        "OTEL_TRACES_EXPORTER": "none",
        "OTEL_METRICS_EXPORTER": "none",
        "OTEL_LOGS_EXPORTER": "none",
        "OTEL_PROFILING_SERVER_ADDRESS": "http://127.0.0.1:9",
        **variables,
    }
    begin = time.perf_counter()
    subprocess.run([sys._base_executable, "-c", "pass"], env=environment, check=True, capture_output=True)
    return (time.perf_counter() - begin) * 1000


def main() -> None:
    """Print the medians."""
    injected = {"PYTHONPATH": f"{TREE / 'opentelemetry/instrumentation/auto_instrumentation'}:{TREE}"}
    with tempfile.TemporaryDirectory() as cache:
        cases = {
            "without": {},
            "injected, nothing compiled": {**injected, "PYTHONDONTWRITEBYTECODE": "1"},
            "injected, PYTHONPYCACHEPREFIX": {**injected, "PYTHONPYCACHEPREFIX": cache},
        }
        for name, variables in cases.items():
            start(**variables)
            print(f"{name}: {median(start(**variables) for _ in range(ROUNDS)):.0f} ms", flush=True)


if __name__ == "__main__":
    main()
