"""The records of workflows and tasks without an end, found without keeping those of all others.

Flows in: the records of a campaign's journals, and the journals once more if tasks are open at their end.
Flows out: the records from which the rows of what is open follow, without their values.

A Dask task has a record at its start, and every task to which something was given has one before its end. So
of tasks only ids are kept, and only until the end comes: memory does not grow with a long run. Workflows are
kept, as their ends may stand in the journals of other processes, but not what they used or ran on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import msgspec

from flowprov.journal.summary import JournalSummary
from flowprov.read.decoding import records_of
from flowprov.read.workflows import OPEN_STATUSES, is_addition
from flowprov.records import Correction, LocalId, OpenTask, Record, Status, Task, Workflow

# The statuses of records without an end. INTERRUPTED is written for a task whose end never came.
WITHOUT_END = (*OPEN_STATUSES, Status.INTERRUPTED.value)

_VALUES = ("used", "generated", "custom_metadata", "error", "telemetry_at_start", "telemetry_at_end")
_NO_TASK_VALUES = dict.fromkeys((*_VALUES, "tags", "dependencies"))
_NO_WORKFLOW_VALUES = dict.fromkeys((*_VALUES, "machine_info", "settings", "code_repository", "orchestrator"))


class OpenRecordFilter:
    """Keeps of one journal what may be open at its end.

    Attributes
    ----------
    task_ids
        The tasks that have a start in this journal and no end there, as the journal names them.
    ended
        The tasks of earlier files of its process that end in it, by their numbers.
    workflows
        The openings and endings of workflows, without their values.
    """

    def __init__(self, first_number: int = 0) -> None:
        self._first_number = first_number
        self.task_ids: set[LocalId] = set()
        self.ended: set[int] = set()
        self.workflows: list[Workflow] = []

    def add(self, _: int, record: Record) -> None:
        """Add the next record of the journal, with its position."""
        if type(record) is Task:
            if record.status in WITHOUT_END:
                self.task_ids.add(record.task_id)
                return
            if self.task_ids:
                self.task_ids.discard(record.task_id)
            if type(record.task_id) is int and record.task_id < self._first_number:
                self.ended.add(record.task_id)
        elif type(record) is OpenTask:
            self.task_ids.add(record.task_id)
        elif type(record) is Workflow and not is_addition(record):
            self.workflows.append(msgspec.structs.replace(record, **_NO_WORKFLOW_VALUES))


def records_of_open(
    journals: list[tuple[JournalSummary, OpenRecordFilter]],
    read: Callable[[JournalSummary], Iterable[Record]] = records_of,
) -> list[tuple[JournalSummary, list[Record]]]:
    """Return the records of all workflows, and of the tasks without an end in any journal.

    Parameters
    ----------
    journals
        The journals of a campaign, each with the filter that saw its records. If tasks are open at the end of
        one, all are read again: their ends may stand in another one.
    read
        Returns the records of a journal: all that speak of tasks without an end in it or in others.
    """
    open_ids = {journal.header.full_id(task_id) for journal, kept in journals for task_id in kept.task_ids}
    open_ids -= {journal.header.full_id(number) for journal, kept in journals for number in kept.ended}
    records_by_task: dict[str, list[tuple[int, Record]]] = {}
    for index, (journal, _) in enumerate(journals if open_ids else ()):
        for task_id, record in _records_of_tasks(journal, read, open_ids):
            if type(record) is Task and record.status not in WITHOUT_END:
                open_ids.remove(task_id)
                records_by_task.pop(task_id, None)
            else:
                records_by_task.setdefault(task_id, []).append((index, record))
    result: list[tuple[JournalSummary, list[Record]]] = [
        (journal, list(kept.workflows)) for journal, kept in journals
    ]
    for records in records_by_task.values():
        for index, record in records:
            result[index][1].append(record)
    return result


def _records_of_tasks(
    journal: JournalSummary, read: Callable[[JournalSummary], Iterable[Record]], task_ids: set[str]
) -> Iterator[tuple[str, Record]]:
    """Yield the records of some tasks in a journal, each with the full id; ids may be removed meanwhile."""
    if not task_ids:
        return
    for record in read(journal):
        if not isinstance(record, (Task, Correction)):
            continue
        task_id = journal.header.full_id(record.task_id)
        if task_id not in task_ids:
            continue
        if not isinstance(record, Correction):
            yield task_id, msgspec.structs.replace(record, **_NO_TASK_VALUES)
        elif record.status is not None:  # the others add values
            yield task_id, record
