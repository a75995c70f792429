"""Define what a probe is, and build one from parts that fail one by one.

Flows in: functions, each of which reads a few values. Flows out: the values that could be read, by name. A
function that fails costs only its own values. It is logged once, and the others go on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from flowprov import guard

Part = Callable[[], "Mapping[str, Any] | None"]

SLOW_EVERY = 20  # readings


class Probe(Protocol):
    """Reads one kind of telemetry.

    Attributes
    ----------
    kind
        The name of its readings in a sample ("cpu", "gpu").
    """

    kind: str

    def read(self) -> dict[str, Any]:
        """Return a reading, of JSON types only. Each name ends with its unit ("rss_bytes").

        Counters that only grow are returned as they are. The caller may keep and change the dict: each
        reading returns a new one.

        If it raises, the caller logs the first exception, and the sample lacks this kind.
        """

    def close(self) -> None:
        """Release what the probe holds."""


class CompositeProbe:
    """A probe of one kind, built from parts that fail one by one.

    Parameters
    ----------
    kind
        The kind of telemetry.
    parts
        The functions that read the parts, by the names of the parts.
    slow_parts
        Parts that change slowly or are expensive to read. They are read only at every
        :data:`SLOW_EVERY`-th reading; the others repeat the last values.
    """

    def __init__(
        self, kind: str, parts: Mapping[str, Part], slow_parts: Mapping[str, Part] | None = None
    ) -> None:
        self.kind = kind
        self._parts = parts
        self._slow_parts = slow_parts or {}
        self._slow_values: list[Mapping[str, Any]] = []
        self._read_count = 0

    def read(self) -> dict[str, Any]:
        """Return a reading with the values of all parts."""
        if self._slow_parts and self._read_count % SLOW_EVERY == 0:
            self._slow_values = list(read_each(self.kind, self._slow_parts).values())
        self._read_count += 1
        values: dict[str, Any] = {}
        for part in [*read_each(self.kind, self._parts).values(), *self._slow_values]:
            values.update(part)
        return values

    def close(self) -> None:
        """Do nothing: the probe holds nothing."""


def read_each(kind: str, readers: Mapping[str, Callable[[], Any]]) -> dict[str, Any]:
    """Return what each reader returns; a reader that fails is left out and logged once.

    Parameters
    ----------
    kind
        What is read, for the warning.
    readers
        The functions that read, by name. A reader that returns None is left out without a warning.
    """
    values: dict[str, Any] = {}
    for name, read in readers.items():
        try:
            value = read()
        except Exception as error:  # drivers may raise any exception; the other readers go on
            warn_unreadable(kind, name, error)
            continue
        if value is not None:
            values[name] = value
    return values


def warn_unreadable(kind: str, name: str, error: Exception) -> None:
    """Warn once that a value cannot be read."""
    guard.warn_once(
        f"telemetry {kind} {name}",
        "flowprov cannot read %s of %s (%s: %s); all other telemetry goes on.",
        name,
        kind,
        type(error).__name__,
        error,
    )
