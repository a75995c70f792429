"""One row per workflow: openings and endings of all processes that took part are folded.

Flows in: the messages of workflows, each with its journal. Flows out: one record per workflow id.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from flowprov.journal.summary import JournalSummary
from flowprov.records import JsonObject, Status, Workflow

OPEN = (Status.RUNNING.value, Status.SUBMITTED.value)
# What a workflow of many ranks is called is what the worst of them is.
_FROM_WORST = (
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

    def close(self, ending: Workflow) -> None:
        """Take the ending in."""
        self.record = _overlay(self.record, ending)
        self.ended = True

    def set_machine(self, values: JsonObject) -> None:
        """Take in what the process that opened it runs on."""
        if self.record.started_at is not None:
            told = fill_missing(self.record.machine_info, values)
            self.record = msgspec.structs.replace(self.record, machine_info=told)

    def result(self) -> Workflow:
        """Give the record; without an ending it is as alive as its journal's writer."""
        if self.ended:
            return self.record
        status = Status.RUNNING if self.journal.alive else Status.INTERRUPTED
        return msgspec.structs.replace(self.record, status=status.value)


class WorkflowRuns:
    """All that was written of one workflow id."""

    def __init__(self) -> None:
        self._runs: list[WorkflowRun] = []
        self._additions: list[Workflow] = []

    def add(self, message: Workflow, journal: JournalSummary) -> WorkflowRun | None:
        """Take an opening, an ending, or what another process added in; gives the run that began with it."""
        if message.status is None and message.started_at is None and message.ended_at is None:
            self._additions.append(message)
            return None
        ends = message.status not in OPEN
        if ends:
            for run in reversed(self._runs):
                if run.journal.path == journal.path and not run.ended:
                    run.close(message)
                    return None
        self._runs.append(WorkflowRun(journal, message, ended=ends))
        return self._runs[-1]

    def fold(self) -> Workflow:
        """Give one record: earliest start, latest end, worst status.

        The rest is said by the lowest rank, and by others where it says nothing. There is no end while one of
        them has none.
        """
        folded = self._fold_runs() if self._runs else self._additions[0]
        for addition in self._additions:
            # The process that opened the workflow has the last word, and says where it ran.
            united = {
                name: fill_missing(getattr(addition, name), getattr(folded, name)) for name in MERGED_FIELDS
            }
            folded = msgspec.structs.replace(folded, **united)
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
            started_at=min(_known(w.started_at for w in results), default=None),
            ended_at=max(_known(w.ended_at for w in results), default=None) if ended else None,
            telemetry_at_end=folded.telemetry_at_end if ended else None,
        )


def _overlay(below: Workflow, above: Workflow) -> Workflow:
    """Give what ``above`` says and, where it says nothing, what ``below`` says."""
    return msgspec.structs.replace(below, **overlay_fields(below, above, MERGED_FIELDS))


def fill_missing(added: Any, said: Any) -> Any:
    """Add what is new to a mapping and to the mappings in it (a model's profile grows)."""
    if not isinstance(added, dict) or not isinstance(said, dict):
        return added if said is None else said
    return {**added, **{key: fill_missing(added.get(key), value) for key, value in said.items()}}


def overlay_fields(below: Any, above: Any, united: Iterable[str]) -> dict[str, Any]:
    """Give the fields that ``above`` changes in ``below``; mappings named in ``united`` are joined."""
    changed = {}
    for name in above.__struct_fields__:
        value = getattr(above, name)
        if value is None:
            continue
        if name in united and (under := getattr(below, name)):
            value = {**under, **value}
        changed[name] = value
    return changed


def _known(times: Iterable[int | None]) -> list[int]:
    return [time for time in times if time is not None]


def severity(status: str | None) -> int:
    """Return the rank of a status among those of one run: 0 is the worst."""
    return _FROM_WORST.index(status) if status in _FROM_WORST else len(_FROM_WORST)
