"""The tasks of a journal that stand by themselves, without a record for each.

Flows in: the lines of one journal. Flows out: its tasks as their lines hold them, and the lines of all other
records from which rows follow. A task stands by itself if the record of its end tells everything: nothing
else in the journal speaks of it. Most tasks do.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple, Union, get_args

import msgspec

from flowprov import records
from flowprov.journal.reader import Damage, JournalReader
from flowprov.journal.summary import JournalSummary
from flowprov.json_depth import depth_exceeds
from flowprov.read.decoding import decode_restored, restore_record
from flowprov.read.workflows import OPEN_STATUSES
from flowprov.records import (
    MAX_DEPTH,
    NOT_A_RECORD,
    Correction,
    Error,
    Int64,
    LeftOut,
    LocalId,
    Machine,
    OpenTask,
    Record,
    Sample,
    Task,
    Workflow,
)

_DASK = "dask_task"
_MAX_NUMBERS = 1_000_000  # that a journal may skip
_WITH_ROWS = (Workflow, Machine, Correction)  # other control records say nothing of rows
_NOTHING = msgspec.Raw()
_DEEP = 2 * MAX_DEPTH  # bytes: each level takes two


class NotPlainError(Exception):
    """Tasks of a journal depend on others, or on samples, or records speak of tasks of other journals."""


class TaskLine(msgspec.Struct, kw_only=True, gc=False, tag="task", tag_field="type"):
    """A task as its line holds it, with the objects in it still in JSON."""

    task_id: LocalId
    campaign_id: str | None = None
    workflow_id: str | None = None
    parent_task_id: LocalId | None = None
    activity_id: str | None = None
    group_id: LocalId | None = None
    subtype: str | None = None
    status: str | None = None
    used: msgspec.Raw = _NOTHING
    generated: msgspec.Raw = _NOTHING
    custom_metadata: msgspec.Raw = _NOTHING
    submitted_at: Int64 | None = None
    started_at: Int64 | None = None
    ended_at: Int64 | None = None
    error: Error | None = None
    telemetry_at_start: msgspec.Raw = _NOTHING
    telemetry_at_end: msgspec.Raw = _NOTHING
    hostname: str | None = None
    pid: Int64 | None = None
    rank: Int64 | None = None
    thread: str | None = None
    tags: list[str] | None = None
    dependencies: list[str] | None = None
    telemetry: bool | None = None
    attempt: Int64 | None = None


class _OpenLine(msgspec.Struct, gc=False, tag="open_task", tag_field="type"):
    """A task that was open, as far as its line says which one."""

    task_id: LocalId


_kinds = (TaskLine, _OpenLine, *(kind for kind in get_args(Record) if kind not in (Task, OpenTask)))
_decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(Union[_kinds])  # noqa: UP007


class TaskBlock(NamedTuple):
    """Tasks that may stand by themselves, and their positions."""

    tasks: list[TaskLine]
    positions: list[int]


class TaskLines:
    """Reads the tasks of one journal.

    Parameters
    ----------
    journal
        The journal.
    with_telemetry
        Whether the readings of tasks are needed.

    Attributes
    ----------
    special
        The numbers of the tasks that do not stand by themselves, of which blocks may hold records, too.
        Complete when all blocks were read.
    damaged
        Whether something in the journal is no record. Known when all blocks were read.
    """

    def __init__(self, journal: JournalSummary, *, with_telemetry: bool = True) -> None:
        self.special: set[int] = set()
        self.damaged = False
        self._with_telemetry = with_telemetry
        self._journal = journal
        self._others: dict[int, Record] = {}
        self._open: set[int] = set()
        self._seen = bytearray()

    def blocks(self) -> Iterator[TaskBlock]:
        """Yield the tasks of the journal.

        Raises
        ------
        NotPlainError
            If they cannot be read one by one.
        OSError
            If the journal cannot be read.
        """
        reader = _BlockReader(self._journal.path)
        for _, (positions, lines) in reader.read():
            found = [
                (line, position)
                for line, position in zip(lines, positions, strict=True)
                if type(line) is TaskLine and self._may_stand_alone(line)
            ]
            ends = {line.task_id: position for line, position in found}
            self._open.difference_update(ends)  # the record of its end repeats what a task was given before
            for line, position in zip(lines, positions, strict=True):
                if type(line) is _OpenLine:
                    if ends.get(line.task_id, -1) < position:
                        self._open.add(self._number_of(line.task_id))
                elif type(line) is not TaskLine:
                    self._add(position, line)
            self._see(found)
            yield TaskBlock([line for line, _ in found], [position for _, position in found])
        self.special |= self._open
        self.damaged = bool(reader.damages) or reader.unfinished is not None

    def rest(self) -> Iterator[tuple[int, Record]]:
        """Yield all records but those of tasks that stand by themselves, with their positions."""
        again = self._read_again() if self.special else {}
        yield from sorted({**again, **self._others}.items(), key=itemgetter(0))

    def _read_again(self) -> dict[int, Record]:
        """Return the records of special tasks."""

        def decode(line: bytes) -> Record | None:
            found = _decoder.decode(line)
            of_task = isinstance(found, (TaskLine, _OpenLine)) and found.task_id in self.special
            return decode_restored(line) if of_task else None

        read = JournalReader(self._journal.path, 0, decode, missing_ok=True).read()
        return {position: record for position, record in read if record is not None}

    def _may_stand_alone(self, task: TaskLine) -> bool:
        if task.subtype == _DASK or task.dependencies is not None:
            raise NotPlainError
        has_readings = task.telemetry_at_start is not _NOTHING or task.telemetry_at_end is not _NOTHING
        if task.status not in OPEN_STATUSES and not (has_readings and self._with_telemetry):
            return True
        self.special.add(self._number_of(task.task_id))
        return False

    def _number_of(self, task_id: LocalId | None) -> int:
        if isinstance(task_id, int) and task_id >= self._journal.header.first_number:
            return task_id
        raise NotPlainError

    def _see(self, tasks: Sequence[tuple[TaskLine, int]]) -> None:
        """Note which tasks have a record of their end; of two records of a task none tells everything."""
        first, seen = self._journal.header.first_number, self._seen
        numbers = [self._number_of(task.task_id) - first for task, _ in tasks]
        largest = max(numbers, default=0)
        if largest > _MAX_NUMBERS + max((position for _, position in tasks), default=0):
            raise NotPlainError  # what is noted of each number is never more than the journal has bytes
        seen.extend(bytes(max(0, largest + 1 - len(seen))))
        for number in numbers:
            if seen[number]:
                self.special.add(number + first)
            seen[number] = 1

    def _add(self, position: int, record: Any) -> None:
        if isinstance(record, LeftOut) or (isinstance(record, Sample) and self._with_telemetry):
            raise NotPlainError
        if isinstance(record, Correction):
            self.special.add(self._number_of(record.task_id))
        if isinstance(record, _WITH_ROWS):
            self._others[position] = restore_record(record)


class _BlockReader(JournalReader[Any]):
    """Reads a journal block by block: each "record" is the positions and the lines of one."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, 0, _decode_strictly, missing_ok=True)

    def _decode_lines(self, start: int, data: bytes) -> tuple[list[tuple[int, int, Any]], list[Damage]]:
        damages: list[Damage] = []
        try:
            found = _decode_block(start, data)
        except NOT_A_RECORD:  # one of them is none, or padding is between them
            decoded, damages = super()._decode_lines(start, data)
            found = [offset for offset, _, _ in decoded], [line for _, _, line in decoded]
        return [(start, start + len(data), found)], damages


def _decode_block(start: int, data: bytes) -> tuple[list[int], list[Any]]:
    """Return the positions and the lines of a block that holds nothing but records.

    Raises
    ------
    msgspec.MsgspecError, ValueError, RecursionError
        If it holds anything else.
    """
    if not data.isascii():
        data.decode()  # names of fields that are not known are not looked at
    texts = data[:-1].split(b"\n")
    lines = _decoder.decode_lines(data)
    if len(lines) != len(texts) or any(depth_exceeds(text, MAX_DEPTH) for text in texts if len(text) > _DEEP):
        raise ValueError
    ends = accumulate((len(text) + 1 for text in texts), initial=start)
    return list(ends)[:-1], lines


def _decode_strictly(line: bytes) -> Any:
    records.decode(line)  # raises if this version knows no such record
    return _decoder.decode(line)
