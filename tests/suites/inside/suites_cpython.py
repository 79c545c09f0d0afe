"""Runs CPython's ``python -m test`` such that each test has a span, and its outcome is noted when it is known."""

import sys
import unittest


def _file(test):
    """Return the class, where tests are run again together."""
    return test.id().rpartition(".")[0]


def observe():
    """Have each test noted, and a span around it."""
    from suites_outcomes import note, span_around, wanted  # noqa: PLC0415 - notes for the process that imports it first

    original = unittest.TestCase.run
    within = False

    def run(self, result=None):
        """Run one test; those that a test runs for its own ends are not noted."""
        nonlocal within
        if within or result is None:
            return original(self, result)
        test, file = self.id(), _file(self)
        if not wanted(test, file):
            return result
        lists = (result.failures, result.errors, result.unexpectedSuccesses, result.skipped)
        before = [len(entries) for entries in lists]
        note(test, "started", file)
        within = True
        try:
            with span_around(test):
                return original(self, result)
        finally:
            within = False
            failures, errors, successes, skips = (entries[count:] for entries, count in zip(lists, before, strict=True))
            if failures or errors or successes:
                outcome = "failed"
            else:  # where one of its subtests was skipped, the test was not
                outcome = "skipped" if any(skipped is self for skipped, _ in skips) else "passed"
            note(test, outcome, file, "\n".join(text for _, text in failures + errors)[-4000:])

    unittest.TestCase.run = run


# Children that are spawned import this file again.
if __name__ == "__main__":
    from test.libregrtest.main import main

    observe()
    sys.argv[0] = "test"
    main()
