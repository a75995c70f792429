"""Stretches of a file, each of which holds one tensor.

Flows in: offsets that a file itself names. Flows out: the same in order, or an error.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias

Stretch: TypeAlias = tuple[int, int]
"""Offset of the first byte, and of the one behind the last."""

MAX_STRETCHES = 500_000


class DamagedError(ValueError):
    """A file says of itself what cannot be: it is damaged, or somebody made it so."""


def checked(found: Iterable[Stretch], size: int) -> list[Stretch]:
    """Return stretches in the order of the file, without empty ones; several may be the same one.

    Raises
    ------
    DamagedError
        If one lies outside of the file, ends before it begins or overlaps another, or if there are too many.
    """
    ordered = sorted({stretch for stretch in found if stretch[0] != stretch[1]})
    if len(ordered) > MAX_STRETCHES:
        raise DamagedError(f"{len(ordered)} tensors")
    position = 0
    for begin, end in ordered:
        if end < begin or end > size:
            raise DamagedError("an offset lies outside of the file")
        if begin < position:
            raise DamagedError("tensors overlap")
        position = end
    return ordered
