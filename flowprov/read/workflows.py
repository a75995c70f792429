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
from flowprov.records import Header, JsonObject, Status, Workflow

OPEN_STATUSES = (Status.RUNNING.value, Status.SUBMITTED.value)
# An attempt of many ranks has the worst of their statuses.
_WORST_FIRST = (
    Status.ERROR.value,
    Status.INTERRUPTED.value,
    Status.CANCELLED.value,
    Status.RUNNING.value,
    Status.SUBMITTED.value,
    Status.FINISHED.value,
)
MERGED_FIELDS = ("used", "generated", "custom_metadata")


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
        self.record = _overlay(self.record, ending)
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
        self._latest: dict[Path, WorkflowRun] = {}
        self._additions: dict[tuple[Path, int | None], WorkflowRun] = {}  # by journal, and when it had opened
        self.index = AttemptIndex(())

    def add(self, message: Workflow, journal: JournalSummary) -> WorkflowRun | None:
        """Add an opening, an ending, or fields from another process; return the run if this starts one."""
        if is_addition(message):
            started = run.record.started_at if (run := self._latest.get(journal.path)) is not None else None
            earlier = self._additions.get((journal.path, started))
            if earlier is not None:
                message = _add(earlier.record, message)
            self._additions[journal.path, started] = WorkflowRun(
                journal, message, ended=True, opened_before=started
            )
            return None
        is_ending = message.status not in OPEN_STATUSES
        process = process_key(journal.header)
        opened = self._open.setdefault(process, [])
        if is_ending and opened:
            opened.pop().add_ending(message)
            return None
        if not is_ending and (run := _left_for(journal, opened)) is not None:
            self._latest[journal.path] = run
            return None  # the opening was written again, as its process had to leave the file
        run = self._latest[journal.path] = WorkflowRun(journal, message, ended=is_ending)
        self._runs.append(run)
        if not is_ending:
            opened.append(run)
        return run

    def fold(self) -> list[Workflow]:
        """Return one record for each attempt, in their order.

        Each has the earliest start, the latest end and the worst status of its ranks. The other fields come
        from the lowest rank that has them. The record has no end while a run has none.
        """
        # Without a run, the process that opened the workflow wrote it into a journal that is not there.
        additions = list(self._additions.values())
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
    folded = results[0]
    for other in results[1:]:
        folded = _overlay(other, folded)
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


def _left_for(later: JournalSummary, opened: Iterable[WorkflowRun]) -> WorkflowRun | None:
    """Return the run in an earlier journal that its process left for a later one; None if there is none."""
    ancestors = {journal_id for journal_id, _ in later.header.ancestors}
    return next((run for run in opened if run.header.journal_id in ancestors), None)


def _overlay(below: Workflow, above: Workflow) -> Workflow:
    """Return the fields of ``above``, and those of ``below`` where ``above`` has None."""
    return msgspec.structs.replace(below, **overlay_fields(below, above, MERGED_FIELDS))


def _add(addition: Workflow, later: Workflow) -> Workflow:
    """Return one addition for two that one process made: names go above earlier ones, tags are added."""
    return _with_tags(_overlay(addition, later), _tags_of(addition), _tags_of(later))


def _tags_of(workflow: Workflow) -> list[Any]:
    tags = (workflow.custom_metadata or {}).get("tags")
    return tags if isinstance(tags, list) else []


def _with_tags(workflow: Workflow, tags: list[Any], more: list[Any]) -> Workflow:
    if not more:
        return workflow
    joined = [*tags, *(tag for tag in more if tag not in tags)]
    metadata = {**(workflow.custom_metadata or {}), "tags": joined}
    return msgspec.structs.replace(workflow, custom_metadata=metadata)


def fill_missing(below: Any, above: Any) -> Any:
    """Return ``above`` with the keys that only ``below`` has, in nested mappings too.

    A model's profile grows in this way.
    """
    if not isinstance(below, dict) or not isinstance(above, dict):
        return below if above is None else above
    return {**below, **{key: fill_missing(below.get(key), value) for key, value in above.items()}}


def is_addition(workflow: Workflow) -> bool:
    """Whether a record only adds values to a workflow; there may be many."""
    return workflow.status is None and workflow.started_at is None and workflow.ended_at is None


def overlay_fields(below: Any, above: Any, merged: Iterable[str]) -> dict[str, Any]:
    """Return the fields that ``above`` changes in ``below``; mappings named in ``merged`` are merged."""
    changed = {}
    for name in above.__struct_fields__:
        value = getattr(above, name)
        if value is None:
            continue
        if name in merged and (below_value := getattr(below, name)):
            value = {**below_value, **value}
        changed[name] = value
    return changed


def _without_none(times: Iterable[int | None]) -> list[int]:
    return [time for time in times if time is not None]


def severity(status: str | None) -> int:
    """Return the rank of a status by severity; 0 is the worst."""
    return _WORST_FIRST.index(status) if status in _WORST_FIRST else len(_WORST_FIRST)
