"""The rows of a campaign one after the other, in bounded memory.

Flows in: journals. Flows out: the rows of workflows, then those of tasks, one for each, in the order in which
their ends were written.

Most tasks have one record, which says all of them: such a row is made, handed on and forgotten. Workflows,
and tasks of which several records speak (those of Dask, corrected ones, ones that were open at a heartbeat)
are folded as :mod:`flowprov.read.rows` does, and held until then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeVar

import msgspec

from flowprov.journal.reader import JournalReader
from flowprov.journal.summary import JournalSummary
from flowprov.read.attempts import AttemptIndex
from flowprov.read.decoding import decode_restored
from flowprov.read.rows import fold_campaign
from flowprov.read.workflows import OPEN_STATUSES
from flowprov.records import (
    Correction,
    Header,
    LeftOut,
    LocalId,
    Machine,
    OpenTask,
    Record,
    Task,
    Workflow,
    complete_task,
    prefix_of,
)

_TASK = prefix_of(Task)
_OF_TASKS = (prefix_of(OpenTask), prefix_of(Correction))
_FOLDED = (*_OF_TASKS, *map(prefix_of, (Workflow, LeftOut, Machine)))
_NO_TIME = 2**63

R = TypeVar("R")


class _TaskHead(msgspec.Struct):
    """What tells of a line whether more is to be known of its task."""

    task_id: LocalId
    status: str | None = None
    started_at: int | None = None
    parent_task_id: LocalId | None = None


_head_of_task = msgspec.json.Decoder(_TaskHead).decode


class RowStream:
    """The rows of a campaign.

    Parameters
    ----------
    journals
        Its journals, those of one process one after the other.

    Attributes
    ----------
    workflows
        The rows of its workflows, one for each attempt, sorted by their start.
    attempts
        What finds the attempts of each workflow.
    started_at
        When the first of all workflows and tasks began, in nanoseconds; 0 if none has a time.
    sources
        Full ids of the tasks whose results others used, or that have children in other processes.
    """

    def __init__(self, journals: Sequence[JournalSummary]) -> None:
        self._journals = journals
        self._spoken_of: set[str] = set()
        self.sources: set[str] = set()
        first = min(map(self._survey, journals), default=_NO_TIME)
        folded = fold_campaign(((one, self._folded_records(one)) for one in journals), merge=True)
        self.workflows = [row for row in folded.rows if isinstance(row, Workflow)]
        self.attempts: Mapping[str, AttemptIndex] = folded.attempts
        self._folded = {str(row.task_id): row for row in folded.rows if isinstance(row, Task)}
        self.sources.update(*(row.dependencies or () for row in self._folded.values()))
        first = min([first, *(row.started_at for row in folded.rows if row.started_at is not None)])
        self.started_at = 0 if first == _NO_TIME else first

    def tasks(self) -> Iterator[Task]:
        """Yield the rows of all tasks; those without an end come last, the innermost first."""
        waiting = dict(self._folded)
        for journal in self._journals:
            header = journal.header
            for record in _read(journal, _decode_task):
                task_id = header.full_id(record.task_id)
                if record.status in OPEN_STATUSES:
                    continue  # it is folded, or began while this was read
                if task_id not in self._spoken_of:
                    yield self._complete(record, header)
                elif task_id in waiting:
                    yield waiting.pop(task_id)
        yield from reversed(waiting.values())

    def _complete(self, task: Task, header: Header) -> Task:
        index = self.attempts.get(task.workflow_id or "")
        attempt = 1 if index is None or index.last == 1 else index.find(header, task.started_at)
        return complete_task(task, header, attempt)

    def _survey(self, journal: JournalSummary) -> int:
        """Note the tasks of which several records speak; return when the first task began."""
        header, first = journal.header, _NO_TIME
        records: Iterator[_TaskHead | OpenTask | Correction] = _read(journal, _decode_head)
        for record in records:
            if isinstance(record, _TaskHead):
                if record.started_at is not None:
                    first = min(first, record.started_at)
                parent = record.parent_task_id
                if isinstance(parent, str) or (parent is not None and parent < header.first_number):
                    self.sources.add(header.full_id(parent))
                if record.status not in OPEN_STATUSES:
                    continue
            self._spoken_of.add(header.full_id(record.task_id))
        return first

    def _folded_records(self, journal: JournalSummary) -> Iterator[Record]:
        header = journal.header

        def decode(line: bytes) -> Record | None:
            if line.startswith(_TASK):
                known = self._spoken_of and header.full_id(_head_of_task(line).task_id) in self._spoken_of
                return decode_restored(line) if known else None
            return decode_restored(line) if line.startswith(_FOLDED) else None

        return _read(journal, decode)


def _decode_head(line: bytes) -> _TaskHead | OpenTask | Correction | None:
    if line.startswith(_TASK):
        return _head_of_task(line)
    return decode_restored(line) if line.startswith(_OF_TASKS) else None  # type: ignore[return-value]


def _decode_task(line: bytes) -> Task | None:
    return decode_restored(line) if line.startswith(_TASK) else None  # type: ignore[return-value]


def _read(journal: JournalSummary, decode: Callable[[bytes], R | None]) -> Iterator[R]:
    """Yield what a function makes of the lines of a journal, where it makes something."""
    for _, record in JournalReader(journal.path, 0, decode, missing_ok=True).read():
        if record is not None:
            yield record
