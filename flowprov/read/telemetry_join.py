"""Join tasks and workflows to the telemetry samples of their process, by time.

Flows in: the samples of one process, most of which hold only what changed since the sample before, and rows
with a start and an end. Flows out: the same rows with ``telemetry_at_start`` and ``telemetry_at_end``.

All rows share the reading of a sample. Only the outermost dict, which has the distance in time, belongs to
one row.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from typing import Any, TypeVar

import msgspec

from flowprov.journal.merge_patch import apply, names_copied
from flowprov.journal.summary import JournalSummary
from flowprov.read.decoding import records_of_kind
from flowprov.read.energy import Counter, exact_energy, find_counters, sampled_energy
from flowprov.read.successions import successions
from flowprov.read.workflows import WorkflowRun
from flowprov.records import Header, JsonObject, Machine, Sample, Task, Workflow

_MAX_TIME = 2**63 - 1
_MAX_KINDS = 256  # of telemetry in one reading
# Each full reading is a copy of the one before. So many names may be copied: some for every name that a
# journal holds, and some besides. A sampler stays far below.
_COPIES_PER_NAME = 50
_FREE_COPIES = 5_000_000

R = TypeVar("R", bound=Task | Workflow)
T = TypeVar("T", bound=Task)


def full_readings(samples: Iterable[Sample]) -> Iterator[tuple[int, JsonObject]]:
    """Yield the time and the full reading of each sample, in the order in which they were written.

    If a line was lost, the changes in it are missing until the next whole sample. Changes without a whole
    sample before them make a reading by themselves.
    """
    reading: JsonObject = {}
    copies_left = _FREE_COPIES
    for sample in samples:
        if sample.values is not None:
            reading = dict(islice(sample.values.items(), _MAX_KINDS))
        if sample.changes is not None:
            changes = dict(islice(sample.changes.items(), _MAX_KINDS))
            try:
                copied, own = names_copied(reading, changes)
            except RecursionError:  # hundreds of nested brackets: the sampler does not write such samples
                continue
            copies_left += _COPIES_PER_NAME * own - copied
            if copies_left < 0 or len(reading) > _MAX_KINDS:  # nor such
                reading, copies_left = {}, 0
            reading = apply(reading, changes)
        if 0 <= sample.at <= _MAX_TIME:  # no clock gives another time
            yield sample.at, reading


def process_readings(
    journals: Iterable[JournalSummary],
) -> Iterator[tuple[Iterator[tuple[int, JsonObject]], str, int]]:
    """Yield the readings of each process, from all its files, with its host and its number."""
    for files in successions(journals):
        samples = chain.from_iterable(records_of_kind(file, Sample) for file in files)
        yield full_readings(samples), files[0].header.hostname, files[0].header.pid


class Series:
    """The samples of one process, sorted by time.

    Parameters
    ----------
    samples
        The samples in the order in which they were written, as each may build on the one before. The clock
        may have been set back between two of them.

    Attributes
    ----------
    times
        When the samples were taken, in nanoseconds.
    values
        The full reading of each sample. Many readings share the objects that did not change, so they must not
        be modified.
    """

    def __init__(self, samples: Iterable[Sample]) -> None:
        readings = sorted(full_readings(samples), key=_time_of)
        self.times: list[int] = [at for at, _ in readings]
        self.values: list[JsonObject] = [values for _, values in readings]

    def indices_around(self, started: int | None, ended: int | None) -> tuple[int | None, int | None]:
        """Return the indices of the samples for a start and for an end; None for an unknown moment.

        The sample for the start is the latest at or before it, else the first. The sample for the end is the
        earliest at or after it, else the last. A period shorter than the time to the next sample has only
        one, the nearest, for both: two samples would show a difference that it did not cause.
        """
        times, last = self.times, len(self.times) - 1
        if last < 0:
            return None, None
        if started is None:
            return None, None if ended is None else min(bisect_left(times, ended), last)
        before = max(bisect_right(times, started) - 1, 0)
        if ended is None or before == last:
            return before, None if ended is None else last
        at, next_at = times[before], times[before + 1]
        if ended - started < next_at - at:
            nearest = before + (started > at and next_at - ended < started - at)
            return nearest, nearest
        return before, max(before, min(bisect_left(times, ended), last))

    def reading_at(self, index: int | None, moment: int | None) -> JsonObject | None:
        """Return the reading of a sample as a row shows it: with its time and its distance from a moment."""
        if index is None or moment is None:
            return None
        at = self.times[index]
        return {**self.values[index], "distance_s": (at - moment) / 1e9, "sampled_at": at}

    def join(self, row: R) -> R:
        """Return a row with its readings; a row that has exact readings keeps only those."""
        if row.telemetry_at_start is not None or row.telemetry_at_end is not None:
            return row
        at_start, at_end = self.indices_around(row.started_at, row.ended_at)
        try:
            start, end = self.reading_at(at_start, row.started_at), self.reading_at(at_end, row.ended_at)
        except OverflowError:  # a time with hundreds of digits
            return row
        return msgspec.structs.replace(row, telemetry_at_start=start, telemetry_at_end=end)


class JournalTelemetry:
    """What the files of one process hold besides tasks: collected while they are read, and joined at the end.

    Attributes
    ----------
    samples
        Its samples, as they were written.
    machine
        Its last description of what the process runs on; None if it has none.
    runs
        Its openings and endings of workflows.
    open_task_ids
        The ids of tasks that its heartbeats list as open.
    """

    def __init__(self) -> None:
        self.samples: list[Sample] = []
        self.machine: Machine | None = None
        self.runs: list[WorkflowRun] = []
        self.open_task_ids: set[str] = set()

    def join_samples(self, header: Header) -> JoinedSamples | None:
        """Join the workflows to the samples; return what joins the tasks, or None without samples."""
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
        The samples, sorted by time.
    counters
        The energy counters in the samples, by device.
    """

    def __init__(self, samples: Iterable[Sample], header: Header) -> None:
        self.series = Series(samples)
        self.counters: dict[str, Counter] = find_counters(
            self.series.times, self.series.values, header.hostname
        )
        self._counters_by_device = {device: [counter] for device, counter in self.counters.items()}

    def join(self, task: T) -> T:
        """Return a task with its readings and its energy, unless it was recorded without telemetry."""
        if task.telemetry is False:
            return task
        joined = self.series.join(task)
        start, end = joined.telemetry_at_start, joined.telemetry_at_end
        if joined is task or not self._counters_by_device or start is None or end is None:
            return joined
        if start["sampled_at"] == end["sampled_at"] or task.started_at is None or task.ended_at is None:
            return joined
        energy = sampled_energy(self._counters_by_device, task.started_at, task.ended_at)
        if energy is not None:
            end["gpu_energy"] = energy  # the outermost dict belongs to this row alone
        return joined


def with_energy(row: R, energy: JsonObject | None) -> R:
    """Return a row with its energy in the reading at its end."""
    if energy is None:
        return row
    at_end = {**(row.telemetry_at_end or {}), "gpu_energy": energy}
    return msgspec.structs.replace(row, telemetry_at_end=at_end)


def with_exact_energy(row: R) -> R:
    """Return a row with the energy between its two exact readings; other rows stay as they are."""
    start, end = row.telemetry_at_start, row.telemetry_at_end
    if start is None or end is None or "gpu_energy" in end or "distance_s" in start or "distance_s" in end:
        return row
    return with_energy(row, exact_energy(start, end, row.hostname or ""))


def machine_as_dict(header: Header, machine: Machine) -> JsonObject:
    """Return what a process runs on, together with the process's identity."""
    process = {name: getattr(header, name) for name in ("hostname", "pid", "rank", "journal_id")}
    return {**process, "at": machine.at, "values": machine.values}


def _time_of(sample: tuple[int, Any]) -> int:
    return sample[0]
