"""How sure a median is: a bootstrap, since what is measured on a busy machine has no distribution with a name."""

from __future__ import annotations

import random
import statistics
from collections.abc import Sequence
from typing import NamedTuple

RESAMPLES = 2000


class Estimate(NamedTuple):
    """A median and its 95 % interval."""

    median: float
    low: float
    high: float


def median_of(groups: Sequence[Sequence[float]]) -> Estimate:
    """Return the median of all values in `groups`, with its bootstrap interval.

    Whole groups are drawn: what was measured in the same processes errs together. So one group alone has no interval to
    speak of, and a value that stands for itself is a group of its own.
    """
    draw = random.Random(0)  # noqa: S311 - the same figures give the same interval
    medians = sorted(_median(draw.choices(groups, k=len(groups))) for _ in range(RESAMPLES))
    return Estimate(_median(groups), medians[int(0.025 * RESAMPLES)], medians[int(0.975 * RESAMPLES)])


def _median(groups: Sequence[Sequence[float]]) -> float:
    return statistics.median([value for group in groups for value in group])
