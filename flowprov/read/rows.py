"""From the messages of a campaign to its rows.

Flows in: the journals of a campaign, message by message. Flows out: tasks and workflows as they stand: one
row per workflow, one per message of a task (or one per task), corrections applied, what never ended told
apart by whether its process is still there, samples of telemetry joined by their time, dependencies resolved.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from itertools import islice
from typing import TypeAlias

import msgspec

from flowprov.journal.summary import JournalSummary
from flowprov.read.dask_tasks import number_attempts, resolve
from flowprov.read.decoding import complete
from flowprov.read.energy import WorkflowCounters
from flowprov.read.telemetry_join import JoinedSamples, JournalTelemetry, with_energy, with_exact_energy
from flowprov.read.workflows import OPEN, WorkflowRuns, overlay_fields
from flowprov.records import (
    Correction,
    LeftOut,
    Machine,
    OpenTask,
    Record,
    Sample,
    Status,
    Task,
    Workflow,
    complete_task,
)

Row: TypeAlias = Task | Workflow

MERGED_FIELDS = ("used", "generated", "custom_metadata")
_LAST = sys.maxsize


def fold(journals: Iterable[tuple[JournalSummary, Iterable[Record]]], *, merge: bool = False) -> list[Row]:
    """Fold the messages of a campaign into rows, ordered by their start.

    Parameters
    ----------
    journals
        Each journal with its records. Whether its writer was alive must have been looked up before they were
        read.
    merge
        One row per task, where a task has several messages.
    """
    folding = _Folding()
    for journal, records in journals:
        folding.take(journal, records)
    rows = folding.rows()
    if merge:
        rows = merge_tasks(rows)
    rows = number_attempts(resolve(rows, folding.left_out))
    rows.sort(key=_begun)
    return rows


class _Folding:
    """What has to be known of all journals before the rows can be told."""

    def __init__(self) -> None:
        self._rows: list[Row] = []
        self._workflows: dict[str, tuple[int, WorkflowRuns]] = {}
        self._begun: dict[str, JournalSummary] = {}  # tasks with a message at their start
        self._found_open: dict[str, tuple[OpenTask, JournalSummary]] = {}
        self._corrections: list[Correction] = []
        self._counters = WorkflowCounters()
        self.left_out: list[LeftOut] = []

    def take(self, journal: JournalSummary, records: Iterable[Record]) -> None:
        """Take the records of one journal in."""
        header, rows = journal.header, self._rows
        telemetry, first = JournalTelemetry(), len(rows)
        for record in records:
            kind = type(record)
            if kind is Task:
                task = complete_task(record, header)  # type: ignore[arg-type]
                if task.telemetry_at_end is not None:
                    task = with_exact_energy(task)
                rows.append(task)
                if task.status in OPEN:
                    self._begun[str(task.task_id)] = journal
            elif kind is LeftOut:
                self.left_out.append(record)  # type: ignore[arg-type]
            elif kind is Sample:
                telemetry.samples.append(record)  # type: ignore[arg-type]
            elif kind is Machine:
                telemetry.machine = record  # type: ignore[assignment]
            elif isinstance(record, (Workflow, OpenTask, Correction)):
                self._take_other(journal, complete(record, header), telemetry)
        samples = telemetry.join_samples(header)
        if samples is not None:
            self._join(samples, telemetry, first)

    def _take_other(
        self, journal: JournalSummary, record: Row | Correction, telemetry: JournalTelemetry
    ) -> None:
        if isinstance(record, Workflow):
            if record.workflow_id not in self._workflows:
                self._workflows[record.workflow_id] = (len(self._rows), WorkflowRuns())
                self._rows.append(record)
            if (run := self._workflows[record.workflow_id][1].add(record, journal)) is not None:
                telemetry.runs.append(run)
        elif isinstance(record, OpenTask):
            self._found_open[str(record.task_id)] = (record, journal)
            telemetry.found_open.add(str(record.task_id))
        elif isinstance(record, Correction):
            self._corrections.append(record)

    def _join(self, samples: JoinedSamples, telemetry: JournalTelemetry, first: int) -> None:
        """Join the tasks of one journal, whose rows begin at ``first``, to its samples."""
        rows = self._rows
        for index in range(first, len(rows)):
            if isinstance(row := rows[index], Task):
                rows[index] = samples.join(row)
        for task_id in telemetry.found_open:
            task, journal = self._found_open[task_id]
            self._found_open[task_id] = (samples.join(task), journal)
        if samples.counters:
            seen = {row.workflow_id for row in islice(rows, first, None)}
            seen.update(run.record.workflow_id for run in telemetry.runs)
            self._counters.add({each for each in seen if each is not None}, samples.counters)

    def rows(self) -> list[Row]:
        """Give the rows, in the order of their first messages."""
        rows = self._rows
        self._fold_workflows()
        begun, ended = self.row_index()
        for task_id, (task, journal) in self._found_open.items():
            if task_id not in begun and task_id not in ended:
                begun[task_id] = len(rows)
                rows.append(_as_task(task))
                self._begun[task_id] = journal
        for task_id, journal in self._begun.items():
            if task_id not in ended and not journal.alive:
                index = begun[task_id]
                rows[index] = msgspec.structs.replace(rows[index], status=Status.INTERRUPTED.value)
        for correction in self._corrections:
            place = ended.get(str(correction.task_id), begun.get(str(correction.task_id)))
            if place is not None:
                rows[place] = _corrected(rows[place], correction)
        return rows

    def _fold_workflows(self) -> None:
        """Put one row in the place of each workflow's first message."""
        folded = {workflow_id: runs.fold() for workflow_id, (_, runs) in self._workflows.items()}
        energies = self._counters.energies(folded)
        for workflow_id, (index, _) in self._workflows.items():
            row = with_energy(folded[workflow_id], energies.get(workflow_id))
            self._rows[index] = with_exact_energy(row)

    def row_index(self) -> tuple[dict[str, int], dict[str, int]]:
        """Say where the start and the end stand of the tasks of which more is known than one message."""
        begun: dict[str, int] = {}
        ended: dict[str, int] = {}
        wanted = {*self._begun, *self._found_open, *(str(each.task_id) for each in self._corrections)}
        if wanted:
            for index, row in enumerate(self._rows):
                if isinstance(row, Task) and row.task_id in wanted:
                    (begun if row.status in OPEN else ended)[str(row.task_id)] = index
        return begun, ended


def merge_tasks(rows: Iterable[Row]) -> list[Row]:
    """Fold the messages of each task into one row: what the end says, and else what the start said."""
    merged: list[Row] = []
    places: dict[str, int] = {}
    for row in rows:
        if not isinstance(row, Task):
            merged.append(row)
            continue
        place = places.setdefault(str(row.task_id), len(merged))
        if place == len(merged):
            merged.append(row)
            continue
        before = merged[place]
        # An end may be read before its start: they can stand in journals of different processes.
        below, above = (row, before) if row.status in OPEN else (before, row)
        changed = overlay_fields(below, above, MERGED_FIELDS)
        if (below.hostname, below.pid) != (
            above.hostname,
            above.pid,
        ) and below.telemetry_at_start is not None:
            changed.pop("telemetry_at_start", None)  # measured where it ended, not where it began
        merged[place] = with_exact_energy(msgspec.structs.replace(below, **changed))
    return merged


def _as_task(task: Task) -> Task:
    fields = {name: getattr(task, name) for name in Task.__struct_fields__}
    return Task(**{**fields, "status": Status.RUNNING.value})


def _corrected(row: Row, correction: Correction) -> Row:
    changed = overlay_fields(row, correction, MERGED_FIELDS)
    del changed["task_id"]  # a row that is open has it in full, as the correction has
    return msgspec.structs.replace(row, **changed)


def _begun(row: Row) -> int:
    """Give the time by which rows are ordered."""
    began = row.started_at
    if began is None:
        began = row.submitted_at if isinstance(row, Task) and row.submitted_at is not None else row.ended_at
    return _LAST if began is None else began
