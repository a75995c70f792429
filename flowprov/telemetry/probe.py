"""What a probe is, and how its metrics fail: each alone.

Flows in: functions that read one number each. Flows out: what could be read, by name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from flowprov import guard


class Probe(Protocol):
    """Reads one kind of telemetry.

    Attributes
    ----------
    kind
        Under which its readings stand in a sample ("cpu", "gpu").
    """

    kind: str

    def read(self) -> dict[str, Any]:
        """Read now: JSON types only, each name with its unit ("rss_bytes"); counters that only grow as such.

        The dictionary is the caller's to keep: the next reading gives another one.

        An exception is caught by whoever calls, said once, and costs this kind of this sample.
        """

    def close(self) -> None:
        """Let go of whatever it holds."""


def read_each(kind: str, readers: Mapping[str, Callable[[], Any]]) -> dict[str, Any]:
    """Read metrics, of which each fails for itself: it is left out then, and that is said once.

    Parameters
    ----------
    kind
        What they are of, for the word about it.
    readers
        What reads each. None is a reading that is not there, and needs no word.
    """
    values: dict[str, Any] = {}
    for name, read in readers.items():
        try:
            value = read()
        except Exception as error:  # drivers raise what they like; the other metrics go on
            say_missing(kind, name, error)
            continue
        if value is not None:
            values[name] = value
    return values


def say_missing(kind: str, name: str, error: Exception) -> None:
    """Say once that a metric cannot be read."""
    guard.warn_once(
        f"telemetry {kind} {name}",
        "flowprov cannot read %s of %s (%s: %s); all other telemetry goes on.",
        name,
        kind,
        type(error).__name__,
        error,
    )


Part = Callable[[], "Mapping[str, Any] | None"]

SLOW_EVERY = 20


class CompositeProbe:
    """Reads one kind: parts that fail each for itself.

    Parameters
    ----------
    kind
        Its name.
    parts
        What reads them.
    slow_parts
        Parts that change slowly or are dear to read: only every :data:`SLOW_EVERY`-th reading has them anew.
    """

    def __init__(
        self, kind: str, parts: Mapping[str, Part], slow_parts: Mapping[str, Part] | None = None
    ) -> None:
        self.kind = kind
        self._parts = parts
        self._slow_parts = slow_parts or {}
        self._kept: list[Mapping[str, Any]] = []
        self._readings = 0

    def read(self) -> dict[str, Any]:
        """Read now."""
        if self._slow_parts and self._readings % SLOW_EVERY == 0:
            self._kept = list(read_each(self.kind, self._slow_parts).values())
        self._readings += 1
        values: dict[str, Any] = {}
        for part in [*read_each(self.kind, self._parts).values(), *self._kept]:
            values.update(part)
        return values

    def close(self) -> None:
        """Nothing is held."""
