"""Which differences between the outcomes of others' tests count."""

from __future__ import annotations

import pytest

from . import known
from .comparison import Verdict, judge, worse
from .table import SUITES

NOTHING: frozenset[str] = frozenset()


def verdict(**tests: frozenset[str]) -> Verdict:
    names = ("alike", "ours", "known", "opentelemetrys", "unstable")
    return Verdict(**{name: tests.get(name, NOTHING) for name in names}, healed=tests.get("healed", NOTHING))


@pytest.mark.parametrize(
    ("plain", "ours", "is_worse"),
    [
        ("passed", "failed", True),
        ("passed", "lost", True),
        ("passed", "skipped", True),
        ("passed", None, True),
        ("skipped", "failed", True),
        (None, "failed", True),
        ("passed", "passed", False),
        ("skipped", "passed", False),
        ("skipped", None, False),
        ("failed", "lost", False),
        ("failed", "passed", False),
    ],
)
def test_worse_outcomes(plain, ours, is_worse):
    """A test that fails, is lost, is skipped or does not run where it did better without us is worse; nothing else is."""
    plain, ours = ({"test": outcome} if outcome else {} for outcome in (plain, ours))
    assert worse(plain, ours) == ({"test"} if is_worse else set())


FAILS, PASSES = {"a": "failed", "b": "passed"}, {"a": "passed", "b": "passed"}


def test_a_test_that_fails_with_us_twice():
    """It is ours, where it does well without us twice, and with OpenTelemetry alone."""
    assert judge(PASSES, FAILS, (PASSES, FAILS), (PASSES, PASSES), []) == verdict(alike=frozenset("b"), ours=frozenset("a"))


def test_a_test_that_fails_with_us_once():
    """It is unstable."""
    assert judge(PASSES, FAILS, (PASSES, PASSES), ({}, {}), []) == verdict(alike=frozenset("b"), unstable=frozenset("a"))


def test_a_test_that_fails_without_us_the_second_time():
    """It is unstable."""
    assert judge(PASSES, FAILS, (FAILS, FAILS), ({}, {}), []) == verdict(alike=frozenset("b"), unstable=frozenset("a"))


def test_a_test_that_fails_with_opentelemetry_alone():
    """It is OpenTelemetry's."""
    assert judge(PASSES, FAILS, (PASSES, FAILS), (FAILS, FAILS), []) == verdict(
        alike=frozenset("b"), opentelemetrys=frozenset("a")
    )


def test_a_test_that_fails_with_opentelemetry_once():
    """It is ours."""
    assert judge(PASSES, FAILS, (PASSES, FAILS), (FAILS, PASSES), []) == verdict(alike=frozenset("b"), ours=frozenset("a"))


def test_a_test_that_is_on_the_list():
    """It is known, and one that has done well is told apart."""
    assert judge(PASSES, FAILS, (PASSES, FAILS), (PASSES, PASSES), ["a", "b"]) == verdict(
        alike=frozenset("b"), known=frozenset("a"), healed=frozenset("b")
    )


def test_the_list_in_the_repository():
    """Each entry has a reason, and a suite that exists."""
    assert {entry.suite for entry in known.read()} <= {suite.name for suite in SUITES}


def test_an_entry_without_a_reason(tmp_path):
    """It is refused."""
    path = tmp_path / "known.toml"
    path.write_text('[[known]]\nsuite = "trio"\ntest = "a"\nreason = " "\n')
    with pytest.raises(ValueError, match="no reason"):
        known.read(path)


def test_an_entry_for_other_pythons(tmp_path):
    """It holds on those only, and for its own suite."""
    path = tmp_path / "known.toml"
    path.write_text(
        '[[known]]\nsuite = "trio"\ntest = "a*"\nreason = "here"\n'
        '[[known]]\nsuite = "trio"\ntest = "b"\nreason = "elsewhere"\npythons = ["2.7"]\n'
        '[[known]]\nsuite = "anyio"\ntest = "c"\nreason = "another suite"\n'
    )
    assert known.matching(known.read(path), "trio", ["ab", "b", "c"]) == {"ab": "here"}
