"""Notes what becomes of each test, and has a span current around it where that was asked for; runs inside the tests' process.

Nothing of this may be seen by the tests: the file is opened for each line only, and a process that a test forks notes nothing.
"""

import contextlib
import json
import os

_PATH = os.environ["SUITES_OUTCOMES"]
_PROCESS = os.getpid()


def _names(variable):
    """Return what the file that the variable names has, one name a line; None without the variable."""
    if path := os.environ.get(variable):
        with open(path) as file:  # noqa: PTH123 - as few modules as can be
            return frozenset(file.read().splitlines())
    return None


_only, _without = _names("SUITES_ONLY"), _names("SUITES_WITHOUT") or frozenset()


def wanted(test, file):
    """Whether the test is to be run: its file is, and it is not left out by name."""
    return (_only is None or file in _only) and test not in _without


def note(test, outcome, file, message=""):
    """Append one line; the outcome ``started`` says that a test has begun."""
    if os.getpid() == _PROCESS:
        line = json.dumps({"test": test, "outcome": outcome, "file": file, "message": message}) + "\n"
        descriptor = os.open(_PATH, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.write(descriptor, line.encode())
        finally:
            os.close(descriptor)


if os.environ.get("SUITES_SPANS"):
    from opentelemetry import trace

    # One for all: tests of OpenTelemetry replace the global provider.
    _tracer = trace.get_tracer("suites")

    def span_around(test):
        """Return a context manager that has a span of the test's name current."""
        return _tracer.start_as_current_span(test)

else:

    def span_around(_test):
        """Return a context manager that does nothing."""
        return contextlib.nullcontext()
