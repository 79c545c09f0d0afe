"""What follows from the outcomes of the same tests in several runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

Outcomes = Mapping[str, str]
"""For each test its outcome: ``passed``, ``failed``, ``skipped``, ``lost`` where its process ended or stood still in it."""

BAD = frozenset({"failed", "lost"})
PROCESS = "(process)"
"""Stands for what no single test is to blame for: an exit code that tells of a failure where no test has failed."""


@dataclass(frozen=True)
class Verdict:
    """The tests, by what was found; each in one of these only."""

    alike: frozenset[str]
    ours: frozenset[str]
    """They do well without us, and fail with us, twice each."""
    known: frozenset[str]
    """The same, for a reason that the list of known differences has."""
    opentelemetrys: frozenset[str]
    """The same, but they fail with OpenTelemetry alone, too, and that twice."""
    unstable: frozenset[str]
    """They did not do the same twice."""
    healed: frozenset[str] = field(default=frozenset())
    """They are on the list of known differences, and did as well with us as without."""


def worse(plain: Outcomes, ours: Outcomes) -> set[str]:
    """Return the tests that did worse with us: fail, are skipped or were not run, where they do better without us."""

    def rank(outcome: str | None) -> int:
        return 0 if outcome in BAD else 1 if outcome in {"skipped", None} else 2

    return {test for test, outcome in plain.items() if rank(ours.get(test)) < rank(outcome)} | {
        test for test, outcome in ours.items() if test not in plain and outcome in BAD
    }


def judge(
    plain: Outcomes,
    ours: Outcomes,
    again: tuple[Outcomes, Outcomes],
    traced: tuple[Outcomes, Outcomes],
    known: Iterable[str],
) -> Verdict:
    """Return what follows.

    Args:
        plain: Outcomes without us, of all tests.
        ours: With us, of all tests.
        again: Without us and with us, once more, at least for those tests that were worse with us.
        traced: With OpenTelemetry and without us, twice, at least for those tests that were worse both times.
        known: Tests that may differ.
    """
    tests = frozenset(plain) | frozenset(ours)
    first = worse(plain, ours)
    twice = first & worse({test: again[0].get(test, "lost") for test in first}, again[1])
    theirs = twice & worse(plain, traced[0]) & worse(plain, traced[1])
    left = twice - theirs
    expected = frozenset(known) & tests
    return Verdict(
        alike=tests - first,
        ours=frozenset(left - expected),
        known=frozenset(left & expected),
        opentelemetrys=frozenset(theirs),
        unstable=frozenset(first - twice),
        healed=expected - first,
    )
