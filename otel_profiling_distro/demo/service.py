"""Runs the demo shop as a user would run a service: its own process, under `opentelemetry-instrument`."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

from .contract import LISTENING, SERVICE_NAME

_START_SECONDS = 30.0
_STOP_SECONDS = 15.0
"""Longer than the exporters' own time-out of 10 s, so that an unreachable collector still gives a normal exit."""


_LOSSES = ("profiles don't reach", "Failed to export span")
"""What our line, and that of OpenTelemetry's exporter (1.30 to 1.45), has where a server does not take what is sent to it."""
_MOST_LOSSES = 100


class ServiceError(Exception):
    """The service did not start, or did not stay up. Says what it printed last."""


def environment(base: Mapping[str, str], server: str | None, otlp: str | None, receiver: str) -> dict[str, str]:
    """Return the environment of the service.

    Args:
        base: The environment to start from.
        server: Pyroscope to send profiles to; None: the receiver.
        otlp: OTLP/HTTP endpoint to send traces to; None: the receiver.
        receiver: URL of the embedded receiver.
    """
    # What the user has set for other programs must not bend the demo; towards their own backends it is what they want,
    # such as credentials.
    own = server is None and otlp is None
    result = {k: v for k, v in base.items() if not (own and k.startswith(("OTEL_", "PYROSCOPE_")))}
    result.pop("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", None)  # would win over what is set below
    result |= {
        "OTEL_SERVICE_NAME": SERVICE_NAME,
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        "OTEL_EXPORTER_OTLP_ENDPOINT": otlp or receiver,
        "OTEL_METRICS_EXPORTER": "none",
        "OTEL_LOGS_EXPORTER": "none",
        "OTEL_PROFILING_SERVER_ADDRESS": server or receiver,
        "OTEL_PROFILING_UPLOAD_INTERVAL": "1s",
    }
    if not own:
        # A process says of its last profile only at this level that it was refused; what is said here, `Service` reads.
        result["OTEL_PROFILING_LOG_LEVEL"] = "info"
    # Both spellings are read, by different clients; a proxy can't reach this machine's loopback.
    for name in ("NO_PROXY", "no_proxy"):
        result[name] = ",".join(filter(None, [result.get(name), "127.0.0.1", "localhost"]))
    return result


def launcher() -> list[str]:
    """Return the command `opentelemetry-instrument`, of this interpreter."""
    # Beside the interpreter as it was called, not as it resolves: a virtual environment's is a link.
    script = Path(sys.executable).parent / "opentelemetry-instrument"
    if script.exists():
        return [str(script)]
    return [sys.executable, "-c", "from opentelemetry.instrumentation.auto_instrumentation import run; run()"]


def instrumented(module: str, *arguments: str) -> list[str]:
    """Return the command that runs `module` under `opentelemetry-instrument`, with this interpreter."""
    return [*launcher(), sys.executable, "-m", module, *arguments]


class Service:
    """A running service; a context manager that leaves nothing of it behind.

    Args:
        command: What to run. It must print a line `LISTENING` + URL once it accepts connections.
        env: Its whole environment.
        stop_seconds: How long it may take to end when asked to.
    """

    def __init__(self, command: list[str], env: Mapping[str, str], *, stop_seconds: float = _STOP_SECONDS) -> None:
        self._stop_seconds = stop_seconds
        self._lines: deque[str] = deque(maxlen=20)
        self._losses: deque[str] = deque(maxlen=_MOST_LOSSES)
        self._listening: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._process = subprocess.Popen(
            command,
            env=dict(env),
            # Never written to: it ends when we do, however we end, and by that the shop knows.
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            # A process group of its own: Ctrl-C reaches us alone, and we can end it with all its children.
            start_new_session=True,
        )
        assert self._process.stdin is not None  # noqa: S101 - for the type checker: a pipe was asked for
        assert self._process.stdout is not None  # noqa: S101 - the same
        self._input, self._output = self._process.stdin, self._process.stdout
        self._reader = threading.Thread(target=self._read, name="demo-service-output", daemon=True)
        self._reader.start()

    def _read(self) -> None:
        for line in self._output:
            if line.startswith(LISTENING):
                self._listening.put(line.removeprefix(LISTENING).strip())
            else:
                self._lines.append(line.rstrip())
                if any(words in line for words in _LOSSES):
                    self._losses.append(line.rstrip())
        self._listening.put(None)

    @property
    def losses(self) -> list[str]:
        """What the service has said of servers that did not take what it sent; whole once it is stopped."""
        return list(self._losses)

    def wait_until_listening(self) -> str:
        """Return the service's URL.

        Raises:
            ServiceError: it ended, or did not say its URL within half a minute.
        """
        try:
            url = self._listening.get(timeout=_START_SECONDS)
        except queue.Empty:
            raise ServiceError(self._with_output(f"the service did not listen within {_START_SECONDS:.0f} s")) from None
        if url is None:
            raise ServiceError(self._with_output(f"the service ended at start, exit code {self._process.wait()}"))
        return url

    def check(self) -> None:
        """Return where the service is still running.

        Raises:
            ServiceError: it has ended.
        """
        if (code := self._process.poll()) is not None:
            raise ServiceError(self._with_output(f"the service ended early, exit code {code}"))

    def stop(self) -> None:
        """Ask the service to end, so that it sends what it has; kill it and all its children where it does not."""
        try:
            if self._process.poll() is None:
                self._process.send_signal(signal.SIGTERM)
                self._process.wait(self._stop_seconds)
        except subprocess.TimeoutExpired:
            pass  # killed below
        finally:
            # Also on a second Ctrl-C, and also where only its children are left.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._reader.join(1)
            if not self._reader.is_alive():  # else a grandchild holds the other end: closing would wait for the reader
                self._output.close()
            self._input.close()

    def _with_output(self, message: str) -> str:
        self._reader.join(0.2)
        return "\n  ".join([f"{message}; it printed last:" if self._lines else message, *self._lines])

    def __enter__(self) -> Service:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.stop()
