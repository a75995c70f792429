"""Axes: from values to places in a drawing, with round numbers beside them.

Flows in: the smallest and the largest value. Flows out: an axis with its ticks.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from flowprov.report.text import format_duration, format_number

_STEPS = (1, 2, 5, 10)
_TIME_STEPS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 21600, 43200, 86400)


@dataclass(frozen=True)
class Tick:
    """A place on an axis, and what stands there."""

    at: float
    text: str


@dataclass(frozen=True)
class Axis:
    """What leads from values to places between ``start`` and ``end``.

    Attributes
    ----------
    low, high
        The smallest and the largest value.
    start, end
        Their places.
    logarithmic
        Whether equal distances are equal ratios.
    """

    low: float
    high: float
    start: float
    end: float
    logarithmic: bool = False

    def place(self, value: float) -> float:
        """Return the place of a value, to a hundredth."""
        low, high = self.low, self.high
        if self.logarithmic:
            low, high, value = math.log10(low), math.log10(high), math.log10(value)
        share = 0.5 if high == low else (value - low) / (high - low)
        return round(self.start + share * (self.end - self.start), 2)

    def ticks(self, most: int = 5) -> list[Tick]:
        """Return round values within the axis, with their places."""
        values = _powers(self.low, self.high) if self.logarithmic else round_values(self.low, self.high, most)
        if self.logarithmic and len(values) < 2:
            values = [self.low, self.high]
        while len(values) > 2 * most:
            values = values[::2]
        return [Tick(self.place(value), format_number(value)) for value in values]

    def time_ticks(self, most: int = 8) -> list[Tick]:
        """Return round durations within the axis, whose values are seconds."""
        span = self.high - self.low
        wanted = [step for step in _TIME_STEPS if span / step <= most]
        if span < _TIME_STEPS[0] * 2 or not wanted:
            values: Sequence[float] = round_values(self.low, self.high, most)
        else:
            values = [wanted[0] * number for number in range(int(self.high // wanted[0]) + 1)]
        return [Tick(self.place(value), format_duration(value) if value else "0") for value in values]


def axis_of(values: Iterable[float], start: float, end: float, *, padded: float = 0.0) -> Axis:
    """Return an axis for finite values, with some room beyond both ends if that is wanted."""
    known = list(values)
    low, high = (min(known), max(known)) if known else (0.0, 1.0)
    if low == high:
        beyond = abs(low) * 0.05 or 0.5
        low, high = low - beyond, high + beyond
    room = (high - low) * padded
    return Axis(low - room, high + room, start, end)


def round_values(low: float, high: float, most: int) -> list[float]:
    """Return multiples of 1, 2 or 5 times a power of ten between two values."""
    span = high - low
    if not (math.isfinite(span) and span > 0):
        return [low]
    power = 10.0 ** math.floor(math.log10(span / most))
    step = next((factor * power for factor in _STEPS if span / (factor * power) <= most), 10 * power)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    digits = max(0, -math.floor(math.log10(step)))
    return [round(number * step, digits) for number in range(first, last + 1)]


def _powers(low: float, high: float) -> list[float]:
    return [10.0**power for power in range(math.ceil(math.log10(low)), math.floor(math.log10(high)) + 1)]
