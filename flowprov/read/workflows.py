"""Fold the messages of workflows into one row per attempt.

Flows in: the messages of workflows, each with its journal. A workflow has an opening and an ending from every
process that took part in it, once for each attempt. Flows out: one record per attempt of a workflow id.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from flowprov.journal.summary import JournalSummary
from flowprov.read.attempts import (
    AttemptIndex,
    Period,
    ProcessKey,
    group_attempts,
    period_of,
    process_key,
    process_period,
)
from flowprov.read.overlay import MERGED_FIELDS, Overlay, fill_missing
from flowprov.records import Header, JsonObject, Status, Workflow

OPEN_STATUSES = (Status.RUNNING.value, Status.SUBMITTED.value)
# An attempt of many ranks has the worst of their statuses.
WORST_FIRST = (
    Status.ERROR.value,
    Status.INTERRUPTED.value,
    Status.CANCELLED.value,
    Status.RUNNING.value,
    Status.SUBMITTED.value,
    Status.FINISHED.value,
)


class WorkflowRun(msgspec.Struct):
    """What one process wrote of one attempt of a workflow: its opening, its ending, or both."""

    journal: JournalSummary
    record: Workflow
    ended: bool
    opened_before: int | None = None  # of an addition: when its process had opened the workflow

    @property
    def header(self) -> Header:
        """The header of its journal."""
        return self.journal.header

    @property
    def period(self) -> Period:
        """From when to when the process had the workflow open."""
        return period_of(self.record.started_at, self.record.ended_at, self.journal)

    @property
    def process_period(self) -> Period:
        """From when to when the process lived."""
        return process_period(self.journal)

    def add_ending(self, ending: Workflow) -> None:
        """Merge the ending into the record."""
        record = Overlay(self.record)
        record.add(ending)
        self.record = record.result()
        self.ended = True

    def set_machine(self, values: JsonObject) -> None:
        """Merge in what the process runs on, if it opened the workflow."""
        if self.record.started_at is not None:
            machine_info = fill_missing(self.record.machine_info, values)
            self.record = msgspec.structs.replace(self.record, machine_info=machine_info)

    def result(self) -> Workflow:
        """Return the record; if it has no ending, its status follows from whether the writer is alive."""
        if self.ended:
            return self.record
        status = Status.RUNNING if self.journal.alive else Status.INTERRUPTED
        return msgspec.structs.replace(self.record, status=status.value)


class _Addition:
    """What one process gave to a workflow: names go above earlier ones, tags are added."""

    def __init__(self, journal: JournalSummary, opened_before: int | None, message: Workflow) -> None:
        self._journal = journal
        self._opened_before = opened_before
        self._record = Overlay(message)
        self._tags = {repr(tag): tag for tag in _tags_of(message)}

    def add(self, message: Workflow) -> None:
        """Add what the process gave later."""
        self._record.add(message)
        for tag in _tags_of(message):
            self._tags.setdefault(repr(tag), tag)

    def as_run(self) -> WorkflowRun:
        """Return everything as one run, which has ended."""
        record = _with_tags(self._record.result(), [], list(self._tags.values()))
        return WorkflowRun(self._journal, record, ended=True, opened_before=self._opened_before)


class WorkflowRuns:
    """The messages of all processes for one workflow id.

    Attributes
    ----------
    index
        Finds the attempt to which a record belongs. :meth:`fold` creates it.
    """

    def __init__(self) -> None:
        self._runs: list[WorkflowRun] = []
        self._open: dict[ProcessKey, list[WorkflowRun]] = {}
        self._open_in: dict[tuple[ProcessKey, str], list[WorkflowRun]] = {}  # the same, by journal id
        self._latest: dict[Path, WorkflowRun] = {}
        self._additions: dict[tuple[Path, int | None], _Addition] = {}  # by journal, and when it had opened
        self.index = AttemptIndex(())

    def add(self, message: Workflow, journal: JournalSummary) -> WorkflowRun | None:
        """Add an opening, an ending, or fields from another process; return the run if this starts one."""
        if is_addition(message):
            started = run.record.started_at if (run := self._latest.get(journal.path)) is not None else None
            earlier = self._additions.get((journal.path, started))
            if earlier is not None:
                earlier.add(message)
            else:
                self._additions[journal.path, started] = _Addition(journal, started, message)
            return None
        is_ending = message.status not in OPEN_STATUSES
        process = process_key(journal.header)
        opened = self._open.setdefault(process, [])
        if is_ending and opened:
            run = opened.pop()
            self._forget_open(process, run.header.journal_id)
            run.add_ending(message)
            return None
        if not is_ending and (left := self._left_for(journal, process)) is not None:
            self._latest[journal.path] = left
            return None  # the opening was written again, as its process had to leave the file
        run = self._latest[journal.path] = WorkflowRun(journal, message, ended=is_ending)
        self._runs.append(run)
        if not is_ending:
            opened.append(run)
            self._open_in.setdefault((process, journal.header.journal_id), []).append(run)
        return run

    def _forget_open(self, process: ProcessKey, journal_id: str) -> None:
        runs = self._open_in[process, journal_id]
        runs.pop()
        if not runs:
            del self._open_in[process, journal_id]
            self._open_in = self._open_in or {}  # an empty one that had keys is larger

    def _left_for(self, later: JournalSummary, process: ProcessKey) -> WorkflowRun | None:
        """Return the run in an earlier journal that its process left for a later one; None without one."""
        ancestors = ((process, journal_id) for journal_id, _ in later.header.ancestors)
        return next((self._open_in[key][0] for key in ancestors if self._open_in.get(key)), None)

    def fold(self) -> list[Workflow]:
        """Return one record for each attempt, in their order.

        Each has the earliest start, the latest end and the worst status of its ranks. The other fields come
        from the lowest rank that has them. The record has no end while a run has none.
        """
        # Without a run, the process that opened the workflow wrote it into a journal that is not there.
        additions = [addition.as_run() for addition in self._additions.values()]
        attempts = group_attempts(self._runs) or [additions[:1]]
        self.index = AttemptIndex(attempts)
        folded = [_fold_attempt(runs, number) for number, runs in enumerate(attempts, 1)]
        for addition in additions:
            place = self.index.find(addition.header, addition.opened_before) - 1
            # What the process that opened the workflow recorded goes above what others added.
            merged = {
                name: fill_missing(getattr(addition.record, name), getattr(folded[place], name))
                for name in MERGED_FIELDS
            }
            tags = _tags_of(folded[place])
            row = msgspec.structs.replace(folded[place], **merged)
            folded[place] = _with_tags(row, tags, _tags_of(addition.record))
        return folded


def _fold_attempt(runs: Sequence[WorkflowRun], number: int) -> Workflow:
    """Return one record for the runs of all ranks."""
    results = sorted((run.result() for run in runs), key=lambda w: (w.rank or 0, w.started_at or 0))
    if len(results) == 1:
        return msgspec.structs.replace(results[0], attempt=number)
    worst = min(results, key=lambda w: severity(w.status))
    overlay = Overlay(results[0])
    for other in results[1:]:
        overlay.add_below(other)
    folded = overlay.result()
    ended = all(run.ended for run in runs)
    return msgspec.structs.replace(
        folded,
        attempt=number,
        status=worst.status,
        error=worst.error,
        started_at=min(_without_none(w.started_at for w in results), default=None),
        ended_at=max(_without_none(w.ended_at for w in results), default=None) if ended else None,
        telemetry_at_end=folded.telemetry_at_end if ended else None,
    )


def _tags_of(workflow: Workflow) -> list[Any]:
    tags = (workflow.custom_metadata or {}).get("tags")
    return tags if isinstance(tags, list) else []


def _with_tags(workflow: Workflow, tags: list[Any], more: list[Any]) -> Workflow:
    if not more:
        return workflow
    known = set(map(repr, tags))  # in a damaged record they may be anything
    joined = [*tags, *(tag for tag in more if repr(tag) not in known)]
    metadata = {**(workflow.custom_metadata or {}), "tags": joined}
    return msgspec.structs.replace(workflow, custom_metadata=metadata)


def is_addition(workflow: Workflow) -> bool:
    """Whether a record only adds values to a workflow; there may be many."""
    return workflow.status is None and workflow.started_at is None and workflow.ended_at is None


def _without_none(times: Iterable[int | None]) -> list[int]:
    return [time for time in times if time is not None]


def severity(status: str | None) -> int:
    """Return the rank of a status by severity; 0 is the worst."""
    return WORST_FIRST.index(status) if status in WORST_FIRST else len(WORST_FIRST)
