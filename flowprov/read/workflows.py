"""Fold the messages of workflows into one row per workflow.

Flows in: the messages of workflows, each with its journal. A workflow has an opening and an ending from every
process that took part in it. Flows out: one record per workflow id.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from flowprov.journal.summary import JournalSummary
from flowprov.records import JsonObject, Status, Workflow

OPEN_STATUSES = (Status.RUNNING.value, Status.SUBMITTED.value)
# A workflow of many ranks has the worst of their statuses.
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
    """What one process wrote of one workflow: its opening, its ending, or both."""

    journal: JournalSummary
    record: Workflow
    ended: bool

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
    """The messages of all processes for one workflow id."""

    def __init__(self) -> None:
        self._runs: list[WorkflowRun] = []
        self._additions: dict[Path, Workflow] = {}  # by journal

    def add(self, message: Workflow, journal: JournalSummary) -> WorkflowRun | None:
        """Add an opening, an ending, or fields from another process; return the run if this starts one."""
        if message.status is None and message.started_at is None and message.ended_at is None:
            earlier = self._additions.get(journal.path)
            self._additions[journal.path] = message if earlier is None else _add(earlier, message)
            return None
        is_ending = message.status not in OPEN_STATUSES
        for run in reversed(self._runs):
            if run.ended:
                continue
            if is_ending and (run.journal.path == journal.path or _goes_on_in(run.journal, journal)):
                run.add_ending(message)
                return None
            if not is_ending and _goes_on_in(run.journal, journal):
                return None  # the opening was written again, as its process had to leave the file
        self._runs.append(WorkflowRun(journal, message, ended=is_ending))
        return self._runs[-1]

    def fold(self) -> Workflow:
        """Return one record, with the earliest start, the latest end and the worst status.

        The other fields come from the lowest rank that has them. The record has no end while a run has none.
        """
        additions = list(self._additions.values())
        folded = self._fold_runs() if self._runs else additions[0]
        for addition in additions:
            # What the process that opened the workflow recorded goes above what others added.
            merged = {
                name: fill_missing(getattr(addition, name), getattr(folded, name)) for name in MERGED_FIELDS
            }
            tags = _tags_of(folded)
            folded = _with_tags(msgspec.structs.replace(folded, **merged), tags, _tags_of(addition))
        return folded

    def _fold_runs(self) -> Workflow:
        results = sorted((run.result() for run in self._runs), key=lambda w: (w.rank or 0, w.started_at or 0))
        if len(results) == 1:
            return results[0]
        worst = min(results, key=lambda w: severity(w.status))
        folded = results[0]
        for other in results[1:]:
            folded = _overlay(other, folded)
        ended = all(run.ended for run in self._runs)
        return msgspec.structs.replace(
            folded,
            status=worst.status,
            error=worst.error,
            started_at=min(_without_none(w.started_at for w in results), default=None),
            ended_at=max(_without_none(w.ended_at for w in results), default=None) if ended else None,
            telemetry_at_end=folded.telemetry_at_end if ended else None,
        )


def _goes_on_in(journal: JournalSummary, later: JournalSummary) -> bool:
    """Whether the process that wrote a journal left it and went on in a later one."""
    first, second = journal.header, later.header
    process = (first.hostname, first.pid, first.process_started_at)
    return process == (second.hostname, second.pid, second.process_started_at) and any(
        journal_id == first.journal_id for journal_id, _ in second.ancestors
    )


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
