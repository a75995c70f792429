"""Pairs of runs, one with and one without a feature, and the interval of what the feature costs.

Flows in: measurements of runs. Flows out: the order in which a pair runs, and the 95 % interval of a
statistic.
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable

RESAMPLES = 10_000


def order(number: int) -> tuple[bool, bool]:
    """Return which run of a pair comes first: True is the run with the feature."""
    return (True, False) if number % 2 else (False, True)


def interval(
    values: list[float], statistic: Callable[[list[float]], float] = statistics.median
) -> tuple[float, float]:
    """Return the interval that holds the statistic of 95 in 100 resamples (percentile bootstrap)."""
    chance = random.Random(0)  # noqa: S311 - the same figures must give the same interval
    made = sorted(statistic(chance.choices(values, k=len(values))) for _ in range(RESAMPLES))
    return made[RESAMPLES * 25 // 1000], made[RESAMPLES * 975 // 1000]
