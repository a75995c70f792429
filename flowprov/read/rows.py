"""Fold the records of a campaign into rows.

Flows in: the records of a campaign, journal by journal. Flows out: its tasks and workflows, one row per
attempt of a workflow and one per message of a task (or one per task).

- Corrections are applied.
- Each row knows to which attempt of its workflow it belongs.
- Items without an end are RUNNING if their process is still there, INTERRUPTED if it is gone.
- Telemetry samples are joined by time, and the dependencies of Dask tasks are resolved.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import NamedTuple, TypeAlias, TypeVar

import msgspec

from flowprov.journal.summary import JournalSummary
from flowprov.read.attempts import AttemptIndex, attempt_key
from flowprov.read.dask_tasks import number_attempts, resolve_dependencies
from flowprov.read.decoding import complete_record
from flowprov.read.energy import WorkflowCounters
from flowprov.read.overlay import Overlay
from flowprov.read.successions import continues
from flowprov.read.telemetry_join import JoinedSamples, JournalTelemetry, with_energy, with_exact_energy
from flowprov.read.workflows import OPEN_STATUSES, WorkflowRuns
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
R = TypeVar("R", Task, OpenTask, Row)
T = TypeVar("T", bound=Task)

_NO_TIME = sys.maxsize  # rows without any time come last


class FoldedCampaign(NamedTuple):
    """The rows of a campaign, sorted by their start.

    Attributes
    ----------
    rows
        The rows.
    attempts
        What finds the attempts of each workflow.
    known_until
        When the processes of what has no end, and is no longer running, recorded last: by the key of the
        attempt of a workflow, and by the id of a task.
    """

    rows: list[Row]
    attempts: dict[str, AttemptIndex]
    known_until: dict[str, int]


class FoldedInOrder(NamedTuple):
    """The rows of a campaign in the order of their first messages.

    Attributes
    ----------
    rows
        The rows.
    firsts
        For each, which of all messages of tasks and openings of workflows was its first one. Rows of tasks
        that have no message come behind all others.
    attempts, known_until
        As those of :class:`FoldedCampaign`.
    """

    rows: list[Row]
    firsts: Sequence[int]
    attempts: dict[str, AttemptIndex]
    known_until: dict[str, int]


def fold(journals: Iterable[tuple[JournalSummary, Iterable[Record]]], *, merge: bool = False) -> list[Row]:
    """Return the rows of a campaign, sorted by their start; see :func:`fold_campaign`."""
    return fold_campaign(journals, merge=merge).rows


def fold_campaign(
    journals: Iterable[tuple[JournalSummary, Iterable[Record]]], *, merge: bool = False
) -> FoldedCampaign:
    """Return the rows of a campaign, sorted by their start, with the attempts of its workflows.

    Parameters
    ----------
    journals
        Each journal with its records. Its ``alive`` must have been determined before the records are read.
    merge
        Whether to merge the messages of a task into one row.
    """
    folded = fold_in_order(journals, merge=merge)
    return FoldedCampaign(sorted(folded.rows, key=sort_time), folded.attempts, folded.known_until)


def fold_in_order(
    journals: Iterable[tuple[JournalSummary, Iterable[Record]]], *, merge: bool = False
) -> FoldedInOrder:
    """Return the rows of a campaign in the order of their first messages; see :func:`fold_campaign`."""
    folding = _Folding()
    for journal, records in journals:
        folding.add(journal, records)
    rows = folding.rows()
    firsts: Sequence[int] = range(len(rows))
    if merge:
        rows, firsts = merge_tasks(rows)
    rows = number_attempts(resolve_dependencies(rows, folding.left_out))
    return FoldedInOrder(rows, firsts, folding.attempts, folding.known_until)


class _Folding:
    """Collects the records of all journals, from which the rows follow at the end."""

    def __init__(self) -> None:
        self._rows: list[Row] = []
        self._workflows: dict[str, tuple[int, WorkflowRuns]] = {}
        self._journals: list[
            tuple[JournalSummary, int, int]
        ] = []  # with the first and last index of its rows
        self._started_in: dict[str, JournalSummary] = {}  # the journals of tasks that have a start message
        self._open_tasks: dict[str, tuple[Overlay[OpenTask], JournalSummary]] = {}
        self._corrections: list[Correction] = []
        self._process: tuple[JournalSummary, JournalTelemetry, int] | None = None
        self._counters = WorkflowCounters()
        self.attempts: dict[str, AttemptIndex] = {}
        self.known_until: dict[str, int] = {}
        self.left_out: list[LeftOut] = []

    def add(self, journal: JournalSummary, records: Iterable[Record]) -> None:
        """Add the records of one journal; those of the files of one process come one after the other."""
        header, rows, begin = journal.header, self._rows, len(self._rows)
        process = self._process
        if process is None or not continues(journal, process[0]):
            self._end_process()
            process = journal, JournalTelemetry(), begin
        _, telemetry, first = process
        self._process = journal, telemetry, first
        for record in records:
            kind = type(record)
            if kind is Task:
                task = complete_task(record, header, 1)  # type: ignore[arg-type]
                if task.telemetry_at_end is not None:
                    task = with_exact_energy(task)
                rows.append(task)
                if self._open_tasks or task.status in OPEN_STATUSES:
                    self._note_start_or_end(task, journal)
            elif kind is LeftOut:
                self.left_out.append(record)  # type: ignore[arg-type]
            elif kind is Sample:
                telemetry.samples.append(record)  # type: ignore[arg-type]
            elif kind is Machine:
                telemetry.machine = record  # type: ignore[assignment]
            elif isinstance(record, (Workflow, OpenTask, Correction)):
                self._add_other(journal, complete_record(record, header), telemetry)
        self._journals.append((journal, begin, len(rows)))

    def _end_process(self) -> None:
        """Join what the files of a process hold to their samples."""
        process, self._process = self._process, None
        if process is None:
            return
        journal, telemetry, first = process
        samples = telemetry.join_samples(journal.header)
        if samples is not None:
            self._join_tasks(samples, telemetry, first, journal)

    def _note_start_or_end(self, task: Task, journal: JournalSummary) -> None:
        if task.status in OPEN_STATUSES:
            self._started_in[str(task.task_id)] = journal
        else:  # the record of its end repeats what was given to it while it was open
            self._open_tasks.pop(str(task.task_id), None)

    def _add_other(
        self, journal: JournalSummary, record: Row | Correction, telemetry: JournalTelemetry
    ) -> None:
        if isinstance(record, Workflow):
            if record.workflow_id not in self._workflows:
                self._workflows[record.workflow_id] = (len(self._rows), WorkflowRuns())
                self._rows.append(record)
            if (run := self._workflows[record.workflow_id][1].add(record, journal)) is not None:
                telemetry.runs.append(run)
        elif isinstance(record, OpenTask):
            task_id = str(record.task_id)
            if task_id in self._open_tasks:
                open_task, _ = self._open_tasks[task_id]
                open_task.add(record, join_tags=True)
            else:
                open_task = Overlay(record)
            self._open_tasks[task_id] = (open_task, journal)
            telemetry.open_task_ids.add(task_id)
        elif isinstance(record, Correction):
            self._corrections.append(record)

    def _join_tasks(
        self, samples: JoinedSamples, telemetry: JournalTelemetry, first: int, journal: JournalSummary
    ) -> None:
        """Join the tasks of one process to its samples; their rows begin at index ``first``."""
        rows = self._rows
        for index in range(first, len(rows)):
            if isinstance(row := rows[index], Task):
                rows[index] = samples.join(row)
        for task_id in telemetry.open_task_ids & self._open_tasks.keys():
            open_task, its_journal = self._open_tasks[task_id]
            self._open_tasks[task_id] = (Overlay(samples.join(open_task.result())), its_journal)
        if samples.counters:
            workflow_ids = {row.workflow_id for row in islice(rows, first, None)}
            workflow_ids.update(run.record.workflow_id for run in telemetry.runs)
            self._counters.add(journal, {name for name in workflow_ids if name is not None}, samples.counters)

    def rows(self) -> list[Row]:
        """Return the rows, in the order of their first messages."""
        rows = self._rows
        self._end_process()
        self._fold_workflows()
        starts, ends = self._index_rows()
        for task_id, (open_task, journal) in self._open_tasks.items():
            if task_id in ends:
                continue
            if task_id in starts:
                row = Overlay(rows[starts[task_id]])
                row.add(open_task.result(), join_tags=True)
                rows[starts[task_id]] = row.result()
            else:
                starts[task_id] = len(rows)
                rows.append(_running_task(open_task.result()))
                self._started_in[task_id] = journal
        for task_id, journal in self._started_in.items():
            if task_id not in ends and not journal.alive:
                index = starts[task_id]
                rows[index] = msgspec.structs.replace(rows[index], status=Status.INTERRUPTED.value)
                self.known_until[task_id] = max(journal.last_at, rows[index].started_at or 0)
        self._correct(rows, {**starts, **ends})
        return rows

    def _correct(self, rows: list[Row], indices: dict[str, int]) -> None:
        """Apply the corrections to the rows of their tasks; there may be many of one task."""
        corrected: dict[int, Overlay[Row]] = {}
        for correction in self._corrections:
            index = indices.get(str(correction.task_id))
            if index is not None:
                if index not in corrected:
                    corrected[index] = Overlay(rows[index])
                corrected[index].add(correction, join_tags=True)
        for index, row in corrected.items():
            rows[index] = row.result()

    def _fold_workflows(self) -> None:
        """Replace the first message of each workflow by the rows of its attempts."""
        folded = {workflow_id: runs.fold() for workflow_id, (_, runs) in self._workflows.items()}
        self.attempts = {workflow_id: runs.index for workflow_id, (_, runs) in self._workflows.items()}
        energies = self._counters.energies(folded, self.attempts)
        self._assign_attempts({name: index for name, index in self.attempts.items() if index.last > 1})
        for workflow_id, (position, _) in self._workflows.items():
            self._note_ends(workflow_id, folded[workflow_id])
            rows = [
                with_exact_energy(with_energy(row, energies.get((workflow_id, number))))
                for number, row in enumerate(folded[workflow_id], 1)
            ]
            self._rows[position] = rows[0]
            self._rows += rows[1:]

    def _note_ends(self, workflow_id: str, attempts: Sequence[Workflow]) -> None:
        """Note until when the attempts of a workflow are known that have no end."""
        for number, row in enumerate(attempts, 1):
            if row.ended_at is None and (end := self.attempts[workflow_id].end_of(number)) is not None:
                self.known_until[attempt_key(workflow_id, number)] = end

    def _assign_attempts(self, indices: dict[str, AttemptIndex]) -> None:
        """Set the attempt of the tasks of some workflows: those that have more than one."""
        if not indices:
            return
        for journal, first, end in self._journals:
            for position in range(first, end):
                row = self._rows[position]
                if isinstance(row, Task) and row.workflow_id in indices:
                    self._rows[position] = _in_attempt(row, journal, indices[row.workflow_id])
        for open_task, journal in self._open_tasks.values():
            task = open_task.result()
            if task.workflow_id in indices:
                open_task.set("attempt", _attempt_of(task, journal, indices[task.workflow_id]))

    def _index_rows(self) -> tuple[dict[str, int], dict[str, int]]:
        """Return the row indices of starts and of ends, for tasks with more than one record."""
        starts: dict[str, int] = {}
        ends: dict[str, int] = {}
        task_ids = {*self._started_in, *self._open_tasks, *(str(item.task_id) for item in self._corrections)}
        if task_ids:
            for index, row in enumerate(self._rows):
                if isinstance(row, Task) and row.task_id in task_ids:
                    (starts if row.status in OPEN_STATUSES else ends)[str(row.task_id)] = index
        return starts, ends


def merge_tasks(rows: Iterable[Row]) -> tuple[list[Row], list[int]]:
    """Merge the messages of each task into one row: the fields of its end, and else those of its start.

    Returns
    -------
    list, list of int
        The rows, and for each which of the given ones was its first.
    """
    merged: list[Row] = []
    firsts: list[int] = []
    indices: dict[str, int] = {}
    overlays: dict[int, Overlay[Row]] = {}
    for number, row in enumerate(rows):
        index = len(merged)
        if isinstance(row, Task):
            index = indices.setdefault(str(row.task_id), index)
        if index == len(merged):
            merged.append(row)
            firsts.append(number)
            continue
        if index not in overlays:
            overlays[index] = Overlay(merged[index])
        if isinstance(row, Task):
            _merge_message(overlays[index], row)
    for index, overlay in overlays.items():
        merged[index] = with_exact_energy(overlay.result())
    return merged, firsts


def _merge_message(merged: Overlay[Row], message: Task) -> None:
    """Add a further message to what is known of a task."""
    elsewhere = (merged.get("hostname"), merged.get("pid")) != (message.hostname, message.pid)
    # An end may be read before its start, as the two can stand in journals of different processes.
    is_start = message.status in OPEN_STATUSES
    reading = message.telemetry_at_start if is_start else merged.get("telemetry_at_start")
    if is_start:
        merged.add_below(message)
    else:
        merged.add(message)
    if elsewhere and reading is not None:
        merged.set("telemetry_at_start", reading)  # of the process where the task started


def _in_attempt(task: T, journal: JournalSummary, index: AttemptIndex) -> T:
    return msgspec.structs.replace(task, attempt=_attempt_of(task, journal, index))


def _attempt_of(task: Task, journal: JournalSummary, index: AttemptIndex) -> int:
    return index.find(journal.header, task.started_at if task.started_at is not None else task.submitted_at)


def _running_task(task: Task) -> Task:
    fields = {name: getattr(task, name) for name in Task.__struct_fields__}
    return Task(**{**fields, "status": Status.RUNNING.value, "attempt": task.attempt or 1})


def sort_time(row: Row) -> int:
    """Return the time by which rows are sorted: the start, else the submission, else the end."""
    at = row.started_at
    if at is None:
        at = row.submitted_at if isinstance(row, Task) and row.submitted_at is not None else row.ended_at
    return _NO_TIME if at is None else at
