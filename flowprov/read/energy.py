"""Compute the energy that GPUs used during a period, from counters that only grow.

Flows in: the energy counters of devices, from the samples of one or more processes or from the two exact
readings of a task. Flows out: joules, per device and in sum, with the name of the method.

A counter counts for a whole device. So the energy includes what other programs used meanwhile, and two
processes that see the same device see the same counter.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import TypeAlias

from flowprov.journal.summary import JournalSummary
from flowprov.read.attempts import AttemptIndex
from flowprov.records import JsonObject, Workflow

AttemptKey: TypeAlias = tuple[str, int]  # the id of a workflow and the number of an attempt

_MAX_DEVICES = 256  # of one host
_MAX_JOULES = 1e18

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
        The time and the value of the counter in each sample that has it, sorted by time.
    """

    def __init__(self, times: Sequence[int], joules: Sequence[float]) -> None:
        self.times = times
        self._joules = joules
        # The counter starts at zero again when its driver is reloaded.
        self._drops = [index for index in range(1, len(joules)) if joules[index] < joules[index - 1]]

    def joules_at(self, moment: int) -> float:
        """Return the counter's value at a moment between its first and last sample, interpolated linearly."""
        before = bisect_right(self.times, moment) - 1
        if before == len(self.times) - 1:
            return self._joules[before]
        start, end = self.times[before], self.times[before + 1]
        low, high = self._joules[before], self._joules[before + 1]
        return low + (high - low) * ((moment - start) / (end - start))

    def went_backwards(self, start: int, end: int) -> bool:
        """Whether the counter went backwards between the samples that enclose a period."""
        if not self._drops:
            return False
        drop = bisect_left(self._drops, bisect_right(self.times, start))
        return drop < len(self._drops) and self._drops[drop] <= bisect_left(self.times, end)

    def sample_spacing(self, moment: int) -> int:
        """Return the nanoseconds between the last sample before a moment and the next one."""
        before = max(bisect_right(self.times, moment) - 1, 0)
        before = min(before, len(self.times) - 2)
        return self.times[before + 1] - self.times[before]


def find_counters(times: Sequence[int], values: Sequence[JsonObject], hostname: str) -> dict[str, Counter]:
    """Return the counters of all devices in the samples of one process, by the device's uuid.

    A device without a uuid is named by its host and number.
    """
    points = [
        (at, *device) for at, sample in zip(times, values, strict=True) for device in _device_counters(sample)
    ]
    uuids: dict[str, set[str]] = {}
    for _, number, uuid, _ in points:
        uuids.setdefault(number, set()).update([uuid] if uuid else [])
    by_device: dict[str, tuple[list[int], list[float]]] = {}
    for at, number, uuid, joules in points:
        # If the sample with the device's uuid was lost, another sample may have it.
        name = uuid or (next(iter(uuids[number])) if len(uuids[number]) == 1 else None)
        counter_times, counter_joules = by_device.setdefault(
            name or _fallback_name(hostname, number), ([], [])
        )
        counter_times.append(at)
        counter_joules.append(joules)
    return {device: Counter(*series) for device, series in by_device.items() if len(series[0]) > 1}


def sampled_energy(counters: Mapping[str, Sequence[Counter]], start: int, end: int) -> JsonObject | None:
    """Return the energy of devices between two moments; each device counts once.

    Parameters
    ----------
    counters
        For each device its counters, one for each process that sampled it.
    start, end
        The moments, in nanoseconds.

    Returns
    -------
    dict or None
        ``joules``, ``by_device``, ``method`` and ``covered_s``: the seconds of the period that samples cover,
        for the device with the best coverage. None if no counter gives an answer: there is none, it has only
        one sample, or the period is shorter than the time between two samples.
    """
    by_device: dict[str, float] = {}
    longest = 0
    for device, device_counters in counters.items():
        combined = _combine_processes(device_counters, start, end)
        if combined is not None:
            by_device[device], covered = combined
            longest = max(longest, covered)
    if not by_device:
        return None
    energy = _as_json(by_device, SAMPLED)
    energy["covered_s"] = longest / 1e9
    return energy


def exact_energy(at_start: JsonObject, at_end: JsonObject, hostname: str) -> JsonObject | None:
    """Return the energy between two exact readings: as :func:`sampled_energy`, without ``covered_s``."""
    before, after = (
        {
            uuid or _fallback_name(hostname, number): joules
            for number, uuid, joules in _device_counters(reading)
        }
        for reading in (at_start, at_end)
    )
    used = {device: after[device] - before[device] for device in before if device in after}
    valid = {device: joules for device, joules in used.items() if joules >= 0}
    return _as_json(valid, EXACT) if valid else None


class WorkflowCounters:
    """The counters that the processes of each workflow sampled."""

    def __init__(self) -> None:
        self._by_journal: list[tuple[JournalSummary, set[str], dict[str, Counter]]] = []

    def add(self, journal: JournalSummary, workflow_ids: set[str], counters: dict[str, Counter]) -> None:
        """Add the counters of one journal, with the workflows of which it holds rows."""
        if counters:
            self._by_journal.append((journal, workflow_ids, counters))

    def energies(
        self, workflows: Mapping[str, Sequence[Workflow]], indices: Mapping[str, AttemptIndex]
    ) -> dict[AttemptKey, JsonObject]:
        """Return the energy of each attempt of a workflow that has ended and has counters.

        Its devices are those that its own processes and those of the workflows inside it sampled.

        Parameters
        ----------
        workflows
            The attempts of each workflow, by its id.
        indices
            What finds the attempts to which the records of a journal belong.
        """
        by_attempt: dict[AttemptKey, dict[str, list[Counter]]] = {}
        for journal, workflow_ids, journal_counters in self._by_journal:
            keys = {
                (workflow_id, number)
                for workflow_id in workflow_ids
                if workflow_id in indices
                for number in indices[workflow_id].of_journal(journal.header, journal.last_at)
            }
            for key in _with_ancestors(keys, workflows, indices, journal):
                counters = by_attempt.setdefault(key, {})
                for device, counter in journal_counters.items():
                    counters.setdefault(device, []).append(counter)
        energies = {}
        for (workflow_id, number), counters in by_attempt.items():
            row = workflows[workflow_id][number - 1]
            if row.started_at is not None and row.ended_at is not None:
                energy = sampled_energy(counters, row.started_at, row.ended_at)
                if energy is not None:
                    energies[workflow_id, number] = energy
        return energies


def _combine_processes(counters: Sequence[Counter], start: int, end: int) -> tuple[float, int] | None:
    """Return the joules that one device used and the nanoseconds for which that is known.

    Each process samples the device at moments of its own. So every part of the period is measured by one
    process alone: readings of two processes in turn could seem to go backwards. Between the last sample of
    one process and the first of the next, the difference of the two counts.
    """
    joules, covered_from, covered_to, last_joules = 0.0, None, start, 0.0
    for counter in counters if len(counters) == 1 else sorted(counters, key=lambda item: item.times[0]):
        first, last = max(covered_to, counter.times[0]), min(end, counter.times[-1])
        if last <= first:
            continue
        if counter.went_backwards(first, last):
            return None
        first_joules = counter.joules_at(first)
        if covered_from is None:
            if end - start < counter.sample_spacing(start):
                return None
            covered_from = first
        elif first > covered_to:
            if first_joules < last_joules:
                return None
            joules += first_joules - last_joules
        covered_to, last_joules = last, counter.joules_at(last)
        joules += last_joules - first_joules
    return None if covered_from is None else (joules, covered_to - covered_from)


def _device_counters(sample: JsonObject) -> Iterable[tuple[str, str | None, float]]:
    """Yield the number, the uuid and the energy counter of each device in a sample."""
    devices = sample.get("gpu")
    if not isinstance(devices, dict):
        return
    for number, device in islice(devices.items(), _MAX_DEVICES):
        if isinstance(device, dict):
            joules, uuid = device.get("energy_j"), device.get("uuid")
            if not isinstance(joules, (int, float)) or isinstance(joules, bool):
                continue
            if abs(joules) < _MAX_JOULES:  # and no NaN
                yield str(number), uuid if isinstance(uuid, str) else None, joules


def _fallback_name(hostname: str, number: str) -> str:
    return f"{hostname} gpu {number}"


def _as_json(by_device: dict[str, float], method: str) -> JsonObject:
    return {"joules": sum(by_device.values()), "by_device": by_device, "method": method}


def _with_ancestors(
    keys: Iterable[AttemptKey],
    workflows: Mapping[str, Sequence[Workflow]],
    indices: Mapping[str, AttemptIndex],
    journal: JournalSummary,
) -> set[AttemptKey]:
    """Return attempts with those around them, as far as they have rows."""
    closure: set[AttemptKey] = set()
    for key in keys:
        current: AttemptKey | None = key
        while current is not None and current not in closure:
            closure.add(current)
            row = workflows[current[0]][current[1] - 1]
            parent = row.parent_workflow_id
            current = (
                (parent, indices[parent].find(journal.header, row.started_at))
                if parent is not None and parent in indices
                else None
            )
    return closure
