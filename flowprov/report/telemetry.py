"""What machines and GPUs did during a campaign, in few numbers.

Flows in: the readings of all processes, one by one. Flows out: for each host and kind the mean of each
stretch of time, and the energy of the GPUs. Memory does not grow with the number of samples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any

from flowprov.journal.summary import JournalSummary
from flowprov.read.energy import Counter, find_counters, sampled_energy
from flowprov.read.frames import usage_rates
from flowprov.read.telemetry_join import process_readings
from flowprov.records import JsonObject
from flowprov.report.goals import number_of

STRETCHES = 160
_MAX_GPUS = 16
_COUNTED = 1_000  # readings of energy that are kept of a process

Series = dict[int, float]
"""The mean of each stretch of time that has any value, by its number."""


class Telemetry:
    """The telemetry of a campaign between two moments.

    Attributes
    ----------
    energy
        Joules of all GPUs; None if none counts its energy.
    """

    def __init__(self, journals: Sequence[JournalSummary], start: int, end: int) -> None:
        self._start, self._end = start, max(end, start + 1)
        self._sums: dict[tuple[str, str], dict[int, dict[int, tuple[float, int]]]] = {}
        counters: dict[str, list[Counter]] = {}
        for readings, hostname, pid in process_readings(journals):
            for device, counter in self._read(readings, hostname, pid).items():
                counters.setdefault(device, []).append(counter)
        used = sampled_energy(counters, self._start, self._end) if counters else None
        self.energy: float | None = None if used is None else used["joules"]

    def series(self) -> dict[tuple[str, str], Series]:
        """Return the series by host and kind, in the order of their names.

        What is of a process is summed over those of a host; what is of the machine is the mean of what its
        processes saw.
        """
        return {
            key: _joined(by_process, added=key[1].startswith("process"))
            for key, by_process in sorted(self._sums.items())
        }

    def _read(self, readings: Any, hostname: str, pid: int) -> dict[str, Counter]:
        before: tuple[int, Mapping[str, Any]] | None = None
        times: list[int] = []
        kept: list[JsonObject] = []
        between = (self._end - self._start) // _COUNTED
        for at, values in readings:
            stretch = (at - self._start) * STRETCHES // (self._end - self._start)
            if 0 <= stretch <= STRETCHES:
                for kind, value in _numbers(before, at, values):
                    self._add((hostname, kind), pid, min(stretch, STRETCHES - 1), value)
            gpus = values.get("gpu")
            if isinstance(gpus, dict) and (not times or at - times[-1] >= between):
                times.append(at)
                kept.append({"gpu": gpus})
            before = at, values
        return find_counters(times, kept, hostname) if times else {}

    def _add(self, key: tuple[str, str], pid: int, stretch: int, value: float) -> None:
        stretches = self._sums.setdefault(key, {}).setdefault(pid, {})
        total, number = stretches.get(stretch, (0.0, 0))
        stretches[stretch] = total + value, number + 1


def _joined(by_process: Mapping[int, Mapping[int, tuple[float, int]]], *, added: bool) -> Series:
    found: dict[int, list[float]] = {}
    for stretches in by_process.values():
        means = {stretch: total / number for stretch, (total, number) in stretches.items()}
        for stretch, mean in _without_gaps(means).items() if added else means.items():
            found.setdefault(stretch, []).append(mean)
    return {
        stretch: sum(means) if added else sum(means) / len(means) for stretch, means in sorted(found.items())
    }


def _without_gaps(means: Mapping[int, float]) -> Series:
    """Return a series in which a stretch without a value has the one before: processes are summed so."""
    filled: Series = {}
    for stretch in range(min(means), max(means) + 1):
        filled[stretch] = means.get(stretch, filled.get(stretch - 1, 0.0))
    return filled


def _numbers(
    before: tuple[int, Mapping[str, Any]] | None, at: int, values: Mapping[str, Any]
) -> list[tuple[str, float]]:
    """Return what a reading says, by kind."""
    found: dict[str, Any] = dict(usage_rates(before, at, values))
    for kind, name in (("mem", "used_bytes"), ("process", "rss_bytes")):
        held = values.get(kind)
        if isinstance(held, dict):
            found[f"{kind}.{name}"] = held.get(name)
    gpus = values.get("gpu")
    for number, device in islice(gpus.items(), _MAX_GPUS) if isinstance(gpus, dict) else ():
        if isinstance(device, dict):
            for name in ("utilization_percent", "memory_used_bytes", "power_w"):
                found[f"gpu.{number}.{name}"] = device.get(name)
    numbers = ((kind, number_of(value)) for kind, value in found.items())
    return [(kind, number) for kind, number in numbers if number is not None]
