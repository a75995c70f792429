"""The charts of metrics: a curve for each run.

Flows in: the values of runs, step by step. Flows out: charts. The values of a run are thinned as they come,
so a report of many runs holds few points of each.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from flowprov.display import count
from flowprov.read.answers.tables import Line
from flowprov.report.downsampling import Point, path_of, thin
from flowprov.report.goals import Goal
from flowprov.report.parts import Chart, Curve
from flowprov.report.run_table import color_of, label_of
from flowprov.report.scales import Axis, axis_of
from flowprov.report.text import shown

WIDTH, HEIGHT = 360, 220
LEFT, RIGHT, TOP, BOTTOM = 48, 8, 8, 24
MAX_CHARTS = 9
MAX_CURVES = 100
_POINTS = 15_000  # of all curves of a report
_MAX_BYTES = 130_000  # of their paths
_MOST, _LEAST = 240, 10  # of one curve
KEPT = 600  # points of a curve, before it is known how many curves there are


@dataclass
class Values:
    """The values of one metric in one run, thinned, and how many there were."""

    points: list[Point]
    total: int
    not_finite: int


@dataclass
class Measured:
    """The values of all metrics, by their name and by run."""

    by_name: dict[str, dict[str, Values]] = field(default_factory=dict)

    def add(self, run_id: str, name: str, points: Sequence[Point]) -> None:
        """Add the values of a metric in a run, sorted by step."""
        bad = sum(not math.isfinite(value) for _, value in points)
        self.by_name.setdefault(name, {})[run_id] = Values(thin(points, KEPT), len(points), bad)


def charts_of(measured: Measured, lines: Sequence[Line], goal: Goal | None) -> tuple[list[Chart], list[str]]:
    """Return the charts of a report, and what is left out of them.

    Parameters
    ----------
    measured
        The values.
    lines
        The runs in their order; their places are their numbers.
    goal
        Whose metric comes first.
    """
    numbers = {str(line["run_id"]): number for number, line in enumerate(lines)}
    drawable = {
        name: {run: values for run, values in runs.items() if run in numbers and values.total > 1}
        for name, runs in measured.by_name.items()
    }
    names = sorted(
        (name for name, runs in drawable.items() if runs),
        key=lambda name: (goal is None or name != goal.metric, -len(drawable[name]), name),
    )
    chosen = names[:MAX_CHARTS]
    curves = sum(min(len(drawable[name]), MAX_CURVES) for name in chosen)
    most = min(_MOST, max(_LEAST, _POINTS // max(curves, 1)))
    charts = _charts(chosen, drawable, numbers, lines, most)
    size = sum(len(curve.path) for chart in charts for curve in chart.curves)
    if size > _MAX_BYTES:  # long numbers
        most = max(_LEAST, most * _MAX_BYTES // size)
        charts = _charts(chosen, drawable, numbers, lines, most)
    notes = []
    if len(names) > len(chosen):
        left = len(names) - len(chosen)
        notes.append(f"{count(left, 'metric')} more: flowprov.metrics() returns all of them.")
    if any(values.total > most for name in chosen for values in drawable[name].values()):
        notes.append(
            f"At most {most} points of a curve are drawn: the smallest and the largest value of each stretch."
        )
    return charts, notes


def _charts(
    names: Sequence[str],
    drawable: Mapping[str, Mapping[str, Values]],
    numbers: Mapping[str, int],
    lines: Sequence[Line],
    most: int,
) -> list[Chart]:
    return [chart for name in names if (chart := _chart(name, drawable[name], numbers, lines, most))]


def _chart(
    name: str, runs: Mapping[str, Values], numbers: Mapping[str, int], lines: Sequence[Line], most: int
) -> Chart | None:
    first = sorted(runs, key=lambda run: numbers[run])
    drawn = first[:MAX_CURVES]
    points = {run: thin(runs[run].points, most) for run in drawn}
    finite = [point for found in points.values() for point in found if math.isfinite(point[1])]
    if not finite:
        return None
    x = _steps(finite)
    y = axis_of((value for _, value in finite), HEIGHT - BOTTOM, TOP, padded=0.04)
    if not (math.isfinite(y.low) and math.isfinite(y.high)):  # beyond what a drawing can hold
        return None
    total = len(lines)
    curves = [
        Curve(
            numbers[run], color_of(numbers[run], total), label_of(lines[numbers[run]]), path_of(points[run])
        )
        for run in reversed(drawn)
    ]
    notes = [f"the {len(drawn)} best of {len(first)} runs"] if len(first) > len(drawn) else []
    bad = sum(runs[run].not_finite > 0 for run in first)
    if bad:
        notes.append(f"{count(bad, 'run')} with NaN or ∞: gaps")
    return Chart(shown(name, 60), curves, _transform(x, y), x.ticks(6), y.ticks(5), notes)


def _steps(points: Iterable[Point]) -> Axis:
    return axis_of((step for step, _ in points), LEFT, WIDTH - RIGHT)


def _transform(x: Axis, y: Axis) -> str:
    across, up = (x.end - x.start) / (x.high - x.low), (y.end - y.start) / (y.high - y.low)
    numbers = (across, 0, 0, up, x.start - across * x.low, y.start - up * y.low)
    return f"matrix({' '.join(f'{number:.8g}' for number in numbers)})"
