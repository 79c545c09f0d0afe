"""Runs CPython's ``python -m test`` such that each test has a span, and its outcome is noted when it is known."""

import sys
import unittest

from suites_outcomes import note, span_around, wanted
from test.libregrtest.main import main

_run = unittest.TestCase.run
_within = False


def _file(test):
    """Return the class, where tests are run again together."""
    return test.id().rpartition(".")[0]


def run(self, result=None):
    """Run one test; those that a test runs for its own ends are not noted."""
    global _within  # noqa: PLW0603 - whether we are called by ourselves
    if _within or result is None:
        return _run(self, result)
    test, file = self.id(), _file(self)
    if not wanted(test, file):
        return result
    lists = (result.failures, result.errors, result.unexpectedSuccesses, result.skipped, result.expectedFailures)
    before = [len(entries) for entries in lists]
    note(test, "started", file)
    _within = True
    try:
        with span_around(test):
            return _run(self, result)
    finally:
        _within = False
        new = [entries[count:] for entries, count in zip(lists, before, strict=True)]
        failed = any(new[:3])
        # Where one of its subtests was skipped, the test was not.
        skipped = any(test is self for test, _ in new[3])
        note(
            test,
            "failed" if failed else "skipped" if skipped else "passed",
            file,
            "\n".join(text for _, text in new[0] + new[1])[-4000:],
        )


unittest.TestCase.run = run
sys.argv[0] = "test"
main()
