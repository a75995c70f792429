"""Pairs of runs, with and without something, and what they say of it.

Flows in: measures of runs. Flows out: the order in which a pair runs, and how sure a middle of them is.
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable

RESAMPLES = 10_000


def order(number: int) -> tuple[bool, bool]:
    """Say which of a pair runs first."""
    return (True, False) if number % 2 else (False, True)


def interval(
    values: list[float], statistic: Callable[[list[float]], float] = statistics.median
) -> tuple[float, float]:
    """Give the interval that holds a statistic of resampled values 95 times in 100 (percentile bootstrap)."""
    chance = random.Random(0)  # noqa: S311 - to be the same for the same figures
    made = sorted(statistic(chance.choices(values, k=len(values))) for _ in range(RESAMPLES))
    return made[RESAMPLES * 25 // 1000], made[RESAMPLES * 975 // 1000]
