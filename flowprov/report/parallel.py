"""Parallel coordinates: the parameters of runs against a metric.

Flows in: the lines of runs in their order, and a goal. Flows out: axes, and a line for each run.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from flowprov.display import count
from flowprov.read.answers.tables import Line
from flowprov.report.goals import Goal, number_of
from flowprov.report.parts import Parallel, ParallelAxis, ParallelLine
from flowprov.report.run_table import color_of, differing_params, label_of
from flowprov.report.scales import Axis, Tick, axis_of
from flowprov.report.text import format_number, shown

TOP, BOTTOM = 34, 250
_WIDTH, _MARGIN = 1_080, 70
_MOST_APART = 220
_MAX_AXES, _MAX_LINES = 8, 300
_MAX_VALUES = 12  # different texts on one axis
_MANY_TIMES = 30  # the largest value by the smallest, from which on an axis is logarithmic
_FEW_VALUES = 6  # numbers of which each has its mark
_SHADES = 5


@dataclass(frozen=True)
class _Placed:
    """An axis, and what places values on it; None if a value has no place."""

    title: str
    ticks: list[Tick]
    place: Callable[[Any], float | None]


def parallel_of(lines: Sequence[Line], goal: Goal | None) -> Parallel | None:
    """Return the drawing; None if there is no goal, or too little to compare."""
    if goal is None:
        return None
    metric = f"metrics.{goal.metric}"
    ranked = [(number, line) for number, line in enumerate(lines) if number_of(line.get(metric)) is not None]
    compared = [line for _, line in ranked]
    usable = [axis for name in differing_params(compared) if (axis := _axis(name, compared)) is not None]
    if len(ranked) < 2 or not usable:
        return None
    axes = [*usable[:_MAX_AXES], _numeric_axis(metric, shown(goal.metric, 24), compared)]
    apart = min((_WIDTH - 2 * _MARGIN) // (len(axes) - 1), _MOST_APART)
    places = [_MARGIN + apart * number for number in range(len(axes))]
    shades = _shades([goal.key(line) for line in compared])
    drawn = ranked[:_MAX_LINES]
    parallel_lines = [
        ParallelLine(number, color_of(number, len(lines)), shade, label_of(line), _points(line, axes, places))
        for (number, line), shade in zip(drawn, shades, strict=False)
    ]
    notes = [f"the {_MAX_LINES} best of {len(ranked)} runs"] if len(ranked) > len(drawn) else []
    if len(usable) > _MAX_AXES:
        notes.append(f"{count(len(usable) - _MAX_AXES, 'parameter')} more differ")
    shown_axes = [ParallelAxis(axis.title, at, axis.ticks) for axis, at in zip(axes, places, strict=True)]
    return Parallel(shown_axes, parallel_lines[::-1], places[-1] + _MARGIN, notes)


def _points(line: Line, axes: Sequence[_Placed], places: Sequence[int]) -> str:
    found = ((at, axis.place(line)) for axis, at in zip(axes, places, strict=True))
    return " ".join(f"{at},{y:g}" for at, y in found if y is not None)


def _axis(column: str, lines: Sequence[Line]) -> _Placed | None:
    """Return the axis of a parameter; None if it has so many texts that an axis says nothing."""
    title = shown(column.removeprefix("params."), 24)
    known = [line[column] for line in lines if line.get(column) is not None]
    if known and all(number_of(value) is not None for value in known):
        return _numeric_axis(column, title, lines)
    texts = sorted({shown(value, 18) for value in known})
    if not 1 < len(texts) <= _MAX_VALUES:
        return None
    axis = Axis(0, len(texts) - 1, BOTTOM - 12, TOP + 12)
    at = {text: axis.place(number) for number, text in enumerate(texts)}
    return _Placed(
        title, [Tick(at[text], text) for text in texts], lambda line: at.get(shown(line.get(column), 18))
    )


def _numeric_axis(column: str, title: str, lines: Sequence[Line]) -> _Placed:
    numbers = [number for line in lines if (number := number_of(line.get(column))) is not None]
    low, high = min(numbers), max(numbers)
    if low > 0 and high / low >= _MANY_TIMES:
        axis = Axis(low, high, BOTTOM, TOP, logarithmic=True)
    else:
        axis = axis_of(numbers, BOTTOM, TOP)

    def place(line: Line) -> float | None:
        number = number_of(line.get(column))
        return None if number is None else axis.place(number)

    few = sorted(set(numbers))
    if len(few) > _FEW_VALUES:
        return _Placed(title, axis.ticks(6), place)
    return _Placed(title, [Tick(axis.place(number), format_number(number)) for number in few], place)


def _shades(keys: Sequence[float]) -> list[int]:
    """Return for each run, the best first, in which fifth it is: 4 for the best."""
    order = sorted(range(len(keys)), key=keys.__getitem__)
    shades = [0] * len(keys)
    for rank, index in enumerate(order):
        shades[index] = _SHADES - 1 - rank * _SHADES // len(keys)
    return shades
