"""What was measured around a task or workflow: samples of its process, joined by their time.

Flows in: the samples of one journal, of which most hold only what changed, and rows with a start and an end.
Flows out: the same rows with ``telemetry_at_start`` and ``telemetry_at_end``. All rows share the readings of
a sample; only the outermost dict, with its distance in time, is a row's own.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

import msgspec

from flowprov.journal.merge_patch import apply
from flowprov.read.energy import Counter, counters, exact_energy, sampled_energy
from flowprov.read.workflows import WorkflowRun
from flowprov.records import Header, JsonObject, Machine, Sample, Task, Workflow

_LATEST = 2**63 - 1

R = TypeVar("R", bound=Task | Workflow)
T = TypeVar("T", bound=Task)


def unfold(samples: Iterable[Sample]) -> Iterator[tuple[int, JsonObject]]:
    """Give each sample's time and all its values, in the order in which they were written.

    Where a line was lost, what it alone said is missing until the next whole sample; changes without any
    whole sample before them are all that is known.
    """
    known: JsonObject = {}
    for sample in samples:
        if sample.values is not None:
            known = sample.values
        if sample.changes is not None:
            try:
                known = apply(known, sample.changes)
            except RecursionError:  # brackets nested by the hundred: no sample of ours
                continue
        if 0 <= sample.at <= _LATEST:  # no clock says anything else
            yield sample.at, known


class Series:
    """The samples of one journal, in the order of time.

    Parameters
    ----------
    samples
        In the order in which they were written: each may build on the one before. The clock may have been
        set back between two of them.

    Attributes
    ----------
    times
        When they were taken, in nanoseconds.
    values
        What each holds; what did not change is the same object in many of them, so it must not be changed.
    """

    def __init__(self, samples: Iterable[Sample]) -> None:
        unfolded = sorted(unfold(samples), key=_at)
        self.times: list[int] = [at for at, _ in unfolded]
        self.values: list[JsonObject] = [values for _, values in unfolded]

    def around(self, started: int | None, ended: int | None) -> tuple[int | None, int | None]:
        """Choose the sample for a start and the one for an end, by their places; None of an unknown moment.

        The latest at or before the start, else the first; the earliest at or after the end, else the last.
        What was over sooner than the next sample comes has one for both, the nearest: two samples would
        suggest a difference that it had no part in.
        """
        times, last = self.times, len(self.times) - 1
        if last < 0:
            return None, None
        if started is None:
            return None, None if ended is None else min(bisect_left(times, ended), last)
        before = max(bisect_right(times, started) - 1, 0)
        if ended is None or before == last:
            return before, None if ended is None else last
        at, following = times[before], times[before + 1]
        if ended - started < following - at:
            nearest = before + (started > at and following - ended < started - at)
            return nearest, nearest
        return before, max(before, min(bisect_left(times, ended), last))

    def reading(self, place: int | None, moment: int | None) -> JsonObject | None:
        """Give one sample as a row shows it: with its time and its distance from the moment."""
        if place is None or moment is None:
            return None
        at = self.times[place]
        return {**self.values[place], "distance_s": (at - moment) / 1e9, "sampled_at": at}

    def join(self, row: R) -> R:
        """Give a row its readings; one that has readings of its own keeps these alone."""
        if row.telemetry_at_start is not None or row.telemetry_at_end is not None:
            return row
        at_start, at_end = self.around(row.started_at, row.ended_at)
        try:
            start, end = self.reading(at_start, row.started_at), self.reading(at_end, row.ended_at)
        except OverflowError:  # a time of hundreds of digits
            return row
        return msgspec.structs.replace(row, telemetry_at_start=start, telemetry_at_end=end)


class JournalTelemetry:
    """What one journal tells beside its tasks, gathered while it is read and joined at its end.

    Attributes
    ----------
    samples
        Its samples, as they were written.
    machine
        The last that it says of what its process runs on.
    runs
        What it says of workflows.
    found_open
        Ids of tasks that its heartbeats found open.
    """

    def __init__(self) -> None:
        self.samples: list[Sample] = []
        self.machine: Machine | None = None
        self.runs: list[WorkflowRun] = []
        self.found_open: set[str] = set()

    def join_samples(self, header: Header) -> JoinedSamples | None:
        """Join the workflows; gives what joins the tasks, None where there are no samples."""
        if self.machine is not None:
            for run in self.runs:
                run.set_machine(self.machine.values)
        if not self.samples:
            return None
        joined = JoinedSamples(self.samples, header)
        for run in self.runs:
            run.record = joined.series.join(run.record)
        return joined


class JoinedSamples:
    """Joins tasks to the samples of their journal.

    Attributes
    ----------
    series
        The samples.
    counters
        The energy counters of the devices in them.
    """

    def __init__(self, samples: Iterable[Sample], header: Header) -> None:
        self.series = Series(samples)
        self.counters: dict[str, Counter] = counters(self.series.times, self.series.values, header.hostname)
        self._of_devices = {device: [counter] for device, counter in self.counters.items()}

    def join(self, task: T) -> T:
        """Give a task its readings and its energy, unless it wants none."""
        if task.telemetry is False:
            return task
        joined = self.series.join(task)
        start, end = joined.telemetry_at_start, joined.telemetry_at_end
        if joined is task or not self._of_devices or start is None or end is None:
            return joined
        if start["sampled_at"] == end["sampled_at"] or task.started_at is None or task.ended_at is None:
            return joined
        energy = sampled_energy(self._of_devices, task.started_at, task.ended_at)
        if energy is not None:
            end["gpu_energy"] = energy  # the outermost dict is this row's own
        return joined


def with_energy(row: R, energy: JsonObject | None) -> R:
    """Add to what was measured at the end of a row the energy until then."""
    if energy is None:
        return row
    at_end = {**(row.telemetry_at_end or {}), "gpu_energy": energy}
    return msgspec.structs.replace(row, telemetry_at_end=at_end)


def with_exact_energy(row: R) -> R:
    """Add the energy between two readings of a row's own; not of samples, nor where it is there already."""
    start, end = row.telemetry_at_start, row.telemetry_at_end
    if start is None or end is None or "gpu_energy" in end or "distance_s" in start or "distance_s" in end:
        return row
    return with_energy(row, exact_energy(start, end, row.hostname or ""))


def machine_of(header: Header, machine: Machine) -> JsonObject:
    """Give what a process runs on, with which process that is."""
    process = {name: getattr(header, name) for name in ("hostname", "pid", "rank", "journal_id")}
    return {**process, "at": machine.at, "values": machine.values}


def _at(sample: tuple[int, Any]) -> int:
    return sample[0]
