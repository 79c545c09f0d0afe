"""How sure a median or a mean is: a bootstrap, since what is measured on a busy machine has no distribution with a name."""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

RESAMPLES = 2000

_Measured = TypeVar("_Measured")


class Estimate(NamedTuple):
    """A figure and its 95 % interval."""

    value: float
    low: float
    high: float


def median_of(groups: Sequence[Sequence[float]]) -> Estimate:
    """Return the median of all values in `groups`, with its bootstrap interval.

    Whole groups are drawn: what was measured in the same processes errs together. So one group alone has no interval to
    speak of, and a value that stands for itself is a group of its own.
    """
    return _estimate(groups, lambda drawn: statistics.median([value for group in drawn for value in group]))


def ratio_of(groups: Sequence[Sequence[tuple[float, float]]]) -> Estimate:
    """Return the geometric mean of the ratios of all pairs in `groups`, with its bootstrap interval; see `median_of`.

    It goes without the highest and the lowest tenth. (The mean of ratios would be too high by their variance, and where
    nothing but noise tells one pair from another, it takes a third fewer of them than a median does to be as sure.)
    """
    logarithms = [[math.log(value / by) for value, by in group] for group in groups]
    return _estimate(logarithms, lambda drawn: math.exp(trimmed_mean([value for group in drawn for value in group])))


def trimmed_mean(values: Sequence[float]) -> float:
    """Return the mean without the highest and the lowest tenth."""
    extremes = len(values) // 10
    return statistics.mean(sorted(values)[extremes : len(values) - extremes])


def _estimate(measured: Sequence[_Measured], figure: Callable[[Sequence[_Measured]], float]) -> Estimate:
    draw = random.Random(0)  # noqa: S311 - the same figures give the same interval
    drawn = sorted(figure(draw.choices(measured, k=len(measured))) for _ in range(RESAMPLES))
    return Estimate(figure(measured), drawn[int(0.025 * RESAMPLES)], drawn[int(0.975 * RESAMPLES)])
