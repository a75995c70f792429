"""Energy of GPUs over a stretch of time, from counters that only grow.

Flows in: counters of devices, as samples of one or more processes or two readings of a task's own tell them.
Flows out: joules, of each device and together, with the name of the method. A counter is that of a whole
device: what other programs drew meanwhile is in it, and two processes that see one device see the same.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping, Sequence

from flowprov.records import JsonObject, Workflow

SAMPLED = (
    "energy counters of the whole devices, interpolated linearly between samples; nothing is counted before "
    "the first and after the last sample"
)
EXACT = "energy counters of the whole devices, the reading at the start taken from the reading at the end"


class Counter:
    """The energy counter of one device, as one process sampled it.

    Parameters
    ----------
    times, joules
        The samples in which it stands, in the order of time.
    """

    def __init__(self, times: Sequence[int], joules: Sequence[float]) -> None:
        self.times = times
        self._joules = joules
        # A driver that is loaded anew counts from nothing.
        self._drops = [place for place in range(1, len(joules)) if joules[place] < joules[place - 1]]

    def at(self, moment: int) -> float:
        """Give where it stood at a moment between its first and its last sample."""
        before = bisect_right(self.times, moment) - 1
        if before == len(self.times) - 1:
            return self._joules[before]
        start, end = self.times[before], self.times[before + 1]
        low, high = self._joules[before], self._joules[before + 1]
        return low + (high - low) * ((moment - start) / (end - start))

    def fell(self, start: int, end: int) -> bool:
        """Whether it went backwards between samples that lie around a stretch of time."""
        if not self._drops:
            return False
        drop = bisect_left(self._drops, bisect_right(self.times, start))
        return drop < len(self._drops) and self._drops[drop] <= bisect_left(self.times, end)

    def spacing(self, moment: int) -> int:
        """Give the nanoseconds between the sample before a moment and the next."""
        before = max(bisect_right(self.times, moment) - 1, 0)
        before = min(before, len(self.times) - 2)
        return self.times[before + 1] - self.times[before]


def counters(times: Sequence[int], values: Sequence[JsonObject], hostname: str) -> dict[str, Counter]:
    """Find the counters of all devices in the samples of one process, by the device's uuid.

    A device that tells no uuid goes by its host and number.
    """
    told = [(at, *device) for at, sample in zip(times, values, strict=True) for device in _devices(sample)]
    names: dict[str, set[str]] = {}
    for _, number, uuid, _ in told:
        names.setdefault(number, set()).update([uuid] if uuid else [])
    points: dict[str, tuple[list[int], list[float]]] = {}
    for at, number, uuid, joules in told:
        # Where the sample that named it was lost, another one tells.
        name = uuid or (next(iter(names[number])) if len(names[number]) == 1 else None)
        moments, readings = points.setdefault(name or _by_place(hostname, number), ([], []))
        moments.append(at)
        readings.append(joules)
    return {device: Counter(*each) for device, each in points.items() if len(each[0]) > 1}


def sampled_energy(of_devices: Mapping[str, Sequence[Counter]], start: int, end: int) -> JsonObject | None:
    """Give the energy of devices between two moments, each device once.

    Parameters
    ----------
    of_devices
        The counters of each device, as any number of processes saw it.
    start, end
        The moments, in nanoseconds.

    Returns
    -------
    dict or None
        ``joules``, ``by_device``, ``covered_s`` (how much of the time the samples cover, of the device of
        which most is known) and ``method``. None where no counter tells it: none is there, one sample alone
        is, or the time is shorter than the distance of two samples.
    """
    by_device: dict[str, float] = {}
    longest = 0
    for device, seen in of_devices.items():
        told = _over_processes(seen, start, end)
        if told is not None:
            by_device[device], covered = told
            longest = max(longest, covered)
    if not by_device:
        return None
    energy = _energy(by_device, SAMPLED)
    energy["covered_s"] = longest / 1e9
    return energy


def exact_energy(at_start: JsonObject, at_end: JsonObject, hostname: str) -> JsonObject | None:
    """Give the energy between two readings: as :func:`sampled_energy`, without ``covered_s``."""
    before, after = (
        {uuid or _by_place(hostname, number): joules for number, uuid, joules in _devices(reading)}
        for reading in (at_start, at_end)
    )
    used = {device: after[device] - before[device] for device in before if device in after}
    grown = {device: joules for device, joules in used.items() if joules >= 0}
    return _energy(grown, EXACT) if grown else None


class WorkflowCounters:
    """The counters that the processes of each workflow saw."""

    def __init__(self) -> None:
        self._seen: list[tuple[set[str], dict[str, Counter]]] = []

    def add(self, workflow_ids: set[str], found: dict[str, Counter]) -> None:
        """Take in what one journal saw, and of which workflows it holds rows."""
        if found:
            self._seen.append((workflow_ids, found))

    def energies(self, workflows: Mapping[str, Workflow]) -> dict[str, JsonObject]:
        """Give the energy of each workflow that has ended and of which a counter tells.

        It is that of all devices that its own processes saw and those of the workflows inside it.
        """
        by_workflow: dict[str, dict[str, list[Counter]]] = {}
        for workflow_ids, found in self._seen:
            for workflow_id in _with_ancestors(workflow_ids, workflows):
                seen = by_workflow.setdefault(workflow_id, {})
                for device, counter in found.items():
                    seen.setdefault(device, []).append(counter)
        energies = {}
        for workflow_id, seen in by_workflow.items():
            row = workflows[workflow_id]
            if row.started_at is not None and row.ended_at is not None:
                energy = sampled_energy(seen, row.started_at, row.ended_at)
                if energy is not None:
                    energies[workflow_id] = energy
        return energies


def _over_processes(seen: Sequence[Counter], start: int, end: int) -> tuple[float, int] | None:
    """Give what one device drew, and the nanoseconds of which that is known.

    Processes that sample one device do so at moments of their own, so a stretch is told by one of them alone:
    their readings in turns could seem to go backwards. Between two processes the counter counted on.
    """
    joules, begun, reached, counted = 0.0, None, start, 0.0
    for counter in seen if len(seen) == 1 else sorted(seen, key=lambda each: each.times[0]):
        first, last = max(reached, counter.times[0]), min(end, counter.times[-1])
        if last <= first:
            continue
        if counter.fell(first, last):
            return None
        before = counter.at(first)
        if begun is None:
            if end - start < counter.spacing(start):
                return None
            begun = first
        elif first > reached:
            if before < counted:
                return None
            joules += before - counted
        reached, counted = last, counter.at(last)
        joules += counted - before
    return None if begun is None else (joules, reached - begun)


def _devices(sample: JsonObject) -> Iterable[tuple[str, str | None, float]]:
    """Give number, uuid and energy counter of each device in a sample."""
    devices = sample.get("gpu")
    if not isinstance(devices, dict):
        return
    for number, device in devices.items():
        if isinstance(device, dict):
            joules, uuid = device.get("energy_j"), device.get("uuid")
            if isinstance(joules, (int, float)) and not isinstance(joules, bool) and math.isfinite(joules):
                yield str(number), uuid if isinstance(uuid, str) else None, joules


def _by_place(hostname: str, number: str) -> str:
    return f"{hostname} gpu {number}"


def _energy(by_device: dict[str, float], method: str) -> JsonObject:
    return {"joules": sum(by_device.values()), "by_device": by_device, "method": method}


def _with_ancestors(workflow_ids: Iterable[str], workflows: Mapping[str, Workflow]) -> set[str]:
    found: set[str] = set()
    for given in workflow_ids:
        current: str | None = given
        while current is not None and current not in found and current in workflows:
            found.add(current)
            current = workflows[current].parent_workflow_id
    return found
