"""A probe that is made of parts.

Flows in: functions that read a few numbers each. Flows out: the readings of one kind.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from flowprov.telemetry.probe import read_each

Part = Callable[[], "Mapping[str, Any] | None"]

SELDOM = 20


class PartsProbe:
    """Reads one kind: parts that fail each for itself.

    Parameters
    ----------
    kind
        Its name.
    parts
        What reads them.
    seldom
        Parts that change slowly or are dear to read: only every :data:`SELDOM`-th reading has them anew.
    """

    def __init__(
        self, kind: str, parts: Mapping[str, Part], seldom: Mapping[str, Part] | None = None
    ) -> None:
        self.kind = kind
        self._parts = parts
        self._seldom = seldom or {}
        self._kept: list[Mapping[str, Any]] = []
        self._readings = 0

    def read(self) -> dict[str, Any]:
        """Read now."""
        if self._seldom and self._readings % SELDOM == 0:
            self._kept = list(read_each(self.kind, self._seldom).values())
        self._readings += 1
        values: dict[str, Any] = {}
        for part in [*read_each(self.kind, self._parts).values(), *self._kept]:
            values.update(part)
        return values

    def close(self) -> None:
        """Nothing is held."""
