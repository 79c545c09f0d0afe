"""What reaches Pyroscope, by how often requests come and by how many names their spans have.

Each row is one process that is busy half of the time, however many requests it takes for that, for two uploads.
"""

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

SECONDS = 10
ROWS = [(10, 1, "root"), (100, 1, "root"), (1000, 1, "root"), (1000, 10, "root"), (1000, 100, "root"), (1000, 1, "none")]
"""Requests a second, distinct span names, scope of ``span_id``."""


def serve(rate: int, names: int) -> None:
    """Be busy half of the time, in root spans that take turns with their names."""
    from opentelemetry import trace

    tracer = trace.get_tracer(__name__)
    start = time.monotonic()
    for number in range(int(rate * (2 * SECONDS + 2))):
        with tracer.start_as_current_span(f"GET /{number % names}"):
            end = time.thread_time() + 0.5 / rate
            while time.thread_time() < end:
                pass
        time.sleep(max(0.0, start + (number + 1) / rate - time.monotonic()))


def measure(rate: int, names: int, scope: str) -> str:
    """Run such a process and return a row about its second upload, the first whole one."""
    from otel_profiling_distro.receiver import Receiver

    with Receiver() as receiver:
        environment = {
            **os.environ,
            "OTEL_PYTHON_DISTRO": "profiling",
            "OTEL_PYTHON_CONFIGURATOR": "configurator",
            "OTEL_TRACES_EXPORTER": "none",
            "OTEL_METRICS_EXPORTER": "none",
            "OTEL_LOGS_EXPORTER": "none",
            "OTEL_PROFILING_SERVER_ADDRESS": receiver.url,
            "OTEL_PROFILING_UPLOAD_INTERVAL": f"{SECONDS}s",
            "OTEL_PROFILING_SPAN_ID_SCOPE": scope,
        }
        launcher = str(Path(sys.executable).parent / "opentelemetry-instrument")
        subprocess.run(
            [launcher, sys.executable, __file__, "--serve", str(rate), str(names)], env=environment, check=True, timeout=120
        )
        push = receiver.pushes()[1]
        samples = receiver.samples()
        readings = sum(sample.count for sample in samples) / (2 * SECONDS + 2) * SECONDS
        rows = len(samples) / (2 * SECONDS + 2) * SECONDS
        ids = len({sample.label("span_id") for sample in samples} - {None})
        span_names = len({sample.label("span_name") for sample in samples} - {None})
    size = int(push.headers["content-length"]) / 1024
    return f"| {rate} | {names} | {scope} | {readings:.0f} | {rows:.0f} | {size:.0f} KiB | {span_names} | {ids} |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--serve", nargs=2, type=int)
    arguments = parser.parse_args()
    if arguments.serve:
        serve(*arguments.serve)
        return
    print("| requests/s | span names | span_id scope | readings an upload | samples an upload | size | names seen | ids seen |")
    print("|---|---|---|---|---|---|---|---|")
    for row in ROWS:
        print(measure(*row), flush=True)


if __name__ == "__main__":
    main()
