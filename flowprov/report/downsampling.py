"""Fewer points for a curve, in which its peaks are still there.

Flows in: points, sorted by step. Flows out: at most so many: of each stretch of steps the smallest and the
largest value, and of all the first and the last one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeAlias

Point: TypeAlias = tuple[float, float]


def thin(points: Sequence[Point], most: int) -> list[Point]:
    """Return at most so many points of a curve (but four at least), in their order.

    Points that are no numbers are kept where they are the only ones of a stretch: there the curve has a gap.
    """
    if len(points) <= max(most, 4):
        return list(points)
    buckets = max((most - 2) // 2, 1)
    inner = points[1:-1]
    kept = [points[0]]
    for number in range(buckets):
        bucket = inner[number * len(inner) // buckets : (number + 1) * len(inner) // buckets]
        finite = [point for point in bucket if math.isfinite(point[1])]
        if not finite:
            kept += bucket[:1]
            continue
        low, high = min(finite, key=_value), max(finite, key=_value)
        kept += [low] if low == high else sorted((low, high))
    kept.append(points[-1])
    return kept


def _value(point: Point) -> float:
    return point[1]


def path_of(points: Sequence[Point]) -> str:
    """Return points as a path of SVG, in the units of the values, with a gap where one is no number."""
    pieces: list[list[str]] = [[]]
    for step, value in points:
        if math.isfinite(value):
            pieces[-1].append(f"{_short(step, 7)} {_short(value, 5)}")
        elif pieces[-1]:
            pieces.append([])
    return "".join(f"M{piece[0]}L{' '.join(piece[1:] or piece)}" for piece in pieces if piece)


def _short(number: float, digits: int) -> str:
    text = f"{number:.{digits}g}"
    return text.replace("e-0", "e-").replace("e+0", "e") if "e" in text else text
