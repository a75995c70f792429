"""Draw the tree of a campaign of any size, in memory that does not grow with the number of its tasks.

Flows in: the journals of a campaign. Flows out: the lines of its tree. The journals are read several times:
once for the workflows, and for which tasks there are and have an end; once for each level of tasks, to choose
those that are shown and to count the others; and once for all that the chosen ones hold. Few programs have
more than a dozen levels of tasks. If there are more, one reading places all the tasks that are left: it takes
memory for each of their parents, and spares a reading for each level.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

import msgspec

from flowprov.ids import full_id
from flowprov.journal.reader import JournalReader
from flowprov.journal.summary import JournalSummary
from flowprov.read.attempts import AttemptIndex, attempt_key, id_of_key
from flowprov.read.decoding import decode_restored
from flowprov.read.digest import Digest
from flowprov.read.labels import FORWARDS, LABEL_FIELDS, labels_of, shown_rank, titled
from flowprov.read.lineage import iter_fields
from flowprov.read.parquet_files import UnreadableFilesError, report_unusable
from flowprov.read.rows import FoldedCampaign, fold, fold_campaign
from flowprov.read.siblings import Kind, Siblings, draw, rank_of, without_circles
from flowprov.read.stand_alone import StandAlone
from flowprov.read.task_files import TaskFiles, TaskGroup
from flowprov.read.task_ids import TaskIds
from flowprov.read.workflows import OPEN_STATUSES
from flowprov.records import Int64, LocalId, Record, Status, Task, Workflow

T = TypeVar("T")

_MAX_READINGS = 12  # for one level of tasks each
_NO_TIME = sys.maxsize  # what has no time comes last
_LARGE_FIELDS = ("machine_info", "settings", "code_repository", "telemetry_at_start", "telemetry_at_end")
_VALUES = ("used", "generated", "custom_metadata")


class _Line(msgspec.Struct, tag_field="type", gc=False):
    """What of a line is needed to place it: all else is skipped while it is decoded."""

    task_id: LocalId
    parent_task_id: LocalId | None = None
    workflow_id: str | None = None
    activity_id: str | None = None
    subtype: str | None = None
    status: str | None = None
    submitted_at: Int64 | None = None
    started_at: Int64 | None = None
    ended_at: Int64 | None = None


class _TaskLine(_Line, tag="task", gc=False):
    pass


class _OpenLine(_Line, tag="open_task", gc=False):
    pass


class _CorrectionLine(_Line, tag="correction", gc=False):
    pass


_decoder = msgspec.json.Decoder(_TaskLine | _OpenLine | _CorrectionLine)
_WORKFLOW = b'{"type":"workflow"'
_CORRECTION = b'{"type":"correction"'
_TASKS = (b'{"type":"task"', b'{"type":"open_task"')


class _AllBut:
    """Every parent, but for some."""

    def __init__(self, others: Container[str | None]) -> None:
        self._others = others

    def __contains__(self, parent: object) -> bool:
        return parent not in self._others


class Outline:
    """The part of a campaign that is printed.

    Parameters
    ----------
    journals
        Its journals.
    most
        How many siblings of one name and status are shown: the last ones. The others are counted.
    depth
        How many levels are shown; None: all.
    fold_forwards
        Whether the forwards of one name under one parent are one line with their count.
    digests
        Of journals whose Parquet files may be read.
    """

    def __init__(
        self,
        journals: Sequence[JournalSummary],
        *,
        most: int = 6,
        depth: int | None = None,
        fold_forwards: bool = True,
        digests: Mapping[Path, Digest] = MappingProxyType({}),
    ) -> None:
        self._journals = journals
        self._digests = _usable(digests)
        self._files = TaskFiles(self._digests) if self._digests else None
        self._unusual = self._files.lines() if self._files is not None else {}
        self._stand_alone = StandAlone()
        self._most = most
        self._depth = depth
        self._fold_forwards = fold_forwards
        self._attempts: dict[str, AttemptIndex] = {}
        self._known, self._started, self._ended, self._parents = (TaskIds() for _ in range(4))
        self._corrected: dict[str, TaskIds] = {}  # by status
        self._inside: dict[str | None, Siblings] = {}
        self._fields: dict[str, dict[str, Any]] = {}  # of what is shown

    def lines(self) -> Iterator[str]:
        """Read the journals; return the lines, indented by their level."""
        self._place_workflows(fold_campaign((journal, self._scan(journal)) for journal in self._journals))
        if self._files is not None and not self._can_read_files():
            return self._of_journals().lines()
        levels: dict[str | None, int] = {None: -1}
        parents: list[str | None] = [None]
        for parent in parents:  # grows with each workflow that is shown
            parents += self._show_inside(parent, levels)
        for _ in range(_MAX_READINGS):
            if not parents:
                break
            self._place_tasks(set(parents))
            parents = self._show_tasks(parents, levels)
        if parents and self._files is not None:
            return self._of_journals().lines()
        if parents:
            self._place_tasks(_AllBut(levels.keys() - set(parents)))
        while parents:
            parents = self._show_tasks(parents, levels)
        self._read_rows({key for key in levels if key is not None})
        return draw(self._inside, self._labels, self._depth)

    def _show_tasks(self, parents: list[str | None], levels: dict[str | None, int]) -> list[str | None]:
        """Give a level to the tasks that are shown inside parents; return those that are parents too."""
        shown = [key for parent in parents for key in self._show_inside(parent, levels)]
        return [key for key in shown if self._files is not None or key in self._parents]

    def _can_read_files(self) -> bool:
        """Whether the tasks in Parquet files are rows as they are."""
        return bool(self._stand_alone) and all(index.last == 1 for index in self._attempts.values())

    def _of_journals(self) -> Outline:
        """Return the outline that reads all journals line by line."""
        return Outline(self._journals, most=self._most, depth=self._depth, fold_forwards=self._fold_forwards)

    def _show_inside(self, parent: str | None, levels: dict[str | None, int]) -> list[str]:
        """Give a level to what is shown inside a parent, and return what has not had one before."""
        level = levels[parent] + 1
        if parent not in self._inside or (self._depth is not None and level >= self._depth):
            return []
        keys = [key for key in self._inside[parent].own_lines() if key not in levels]
        levels.update(dict.fromkeys(keys, level))
        return keys

    def _siblings(self, parent: str | None) -> Siblings:
        if parent not in self._inside:
            self._inside[parent] = Siblings(self._most)
        return self._inside[parent]

    def _scan(self, journal: JournalSummary) -> Iterator[Record]:
        """Yield the workflows of a journal; note which tasks there are, and which of them have an end."""
        full = _full_ids(journal)

        def decode(line: bytes) -> Record | None:
            if line.startswith(_WORKFLOW):
                return _without(decode_restored(line), (*_LARGE_FIELDS, *_VALUES))
            if line.startswith(_CORRECTION):
                correction = _decoder.decode(line)
                self._stand_alone.add(journal, correction.task_id)
                if correction.status is not None:
                    self._corrected.setdefault(correction.status, TaskIds()).add(full(correction.task_id))
            elif line.startswith(_TASKS):
                self._note(task := _decoder.decode(line), full)
                self._stand_alone.add(journal, task.task_id)
            return None

        if (digest := self._digests.get(journal.path)) is not None:
            self._known.add_numbers(digest.header.journal_id, digest.recorded.numbers)
            yield from map(decode, digest.workflows())
        for record in self._decoded(journal, decode):
            if record is not None:
                yield record

    def _decoded(self, journal: JournalSummary, decode: Callable[[bytes], T]) -> Iterator[T]:
        """Yield what the lines of a journal are decoded to: all, or those that are no columns in its file."""
        if journal.path in self._digests:
            yield from map(decode, self._unusual[journal.path])
        else:
            for _, decoded in JournalReader(journal.path, 0, decode, missing_ok=True).read():
                yield decoded

    def _note(self, line: _Line, full: Callable[[LocalId], str]) -> None:
        task_id = full(line.task_id)
        self._known.add(task_id)
        if line.parent_task_id is not None:
            self._parents.add(full(line.parent_task_id))
        if isinstance(line, _TaskLine):
            (self._started if line.status in OPEN_STATUSES else self._ended).add(task_id)

    def _place_workflows(self, folded: FoldedCampaign) -> None:
        self._attempts = folded.attempts
        workflows = {
            attempt_key(row.workflow_id, row.attempt): row for row in folded.rows if isinstance(row, Workflow)
        }
        parents: dict[str, str | None] = {}
        for key, row in workflows.items():
            parent = row.parent_workflow_id if row.parent_workflow_id in self._attempts else None
            if parent is not None and row.started_at is not None:
                parent = attempt_key(parent, self._attempts[parent].begun_at(row.started_at))
            parents[key] = parent
        for key, parent in without_circles(parents).items():
            row = workflows[key]
            kind = Kind(titled(row.name, row.subtype), str(row.status or ""))
            at = row.started_at if row.started_at is not None else row.ended_at
            self._siblings(parent).add(key, _NO_TIME if at is None else at, kind)

    def _place_tasks(self, parents: Container[str | None]) -> None:
        """Place each task that is directly inside one of the parents beside its siblings."""
        placed = TaskIds()
        for journal in self._journals:
            full = _full_ids(journal)

            def decode(line: bytes) -> _Line | None:
                return _decoder.decode(line) if line.startswith(_TASKS) else None

            for line in self._decoded(journal, decode):
                if line is None or (parent := self._parent_of(line, full, parents, journal)) not in parents:
                    continue
                task_id = full(line.task_id)
                status = self._status_of(line, task_id, alive=journal.alive)
                if status is not None and task_id not in placed:
                    placed.add(task_id)
                    self._place(line, task_id, status, parent)

        if self._files is not None and isinstance(parents, set):
            self._place_groups(self._files, parents)

    def _place_groups(self, files: TaskFiles, parents: set[str | None]) -> None:
        """Place the tasks in Parquet files that are directly inside one of the parents."""
        if None in parents:  # the workflows are placed with what is outside of any
            for group in files.outside_tasks(self._known, self._most):
                self._place_group(group, group.parent if group.parent in self._attempts else None)
        tasks = [parent for parent in parents if parent is not None and parent in self._known]
        for group in files.inside_tasks(tasks, self._most) if tasks else ():
            self._place_group(group, group.parent)

    def _place_group(self, group: TaskGroup, parent: str | None) -> None:
        folded = self._fold_forwards and group.subtype in FORWARDS
        kind = Kind(titled(group.activity_id, group.subtype), group.status or "", folded)
        last = [rank_of(*one) for one in group.last]
        self._siblings(parent).add_many(kind, rank_of(*group.first), last, group.number, group.total_ns)

    def _place(self, line: _Line, task_id: str, status: str, parent: str | None) -> None:
        folded = self._fold_forwards and line.subtype in FORWARDS
        times = (line.started_at, line.submitted_at, line.ended_at, _NO_TIME)
        at = next(time for time in times if time is not None)
        duration = (line.ended_at or 0) - line.started_at if line.started_at and line.ended_at else 0
        kind = Kind(titled(line.activity_id, line.subtype), status, folded)
        self._siblings(parent).add(task_id, at, kind, duration)

    def _parent_of(
        self,
        line: _Line,
        full: Callable[[LocalId], str],
        shown: Container[str | None],
        journal: JournalSummary,
    ) -> str | None:
        """Return the nearest parent that is there: a task, else the workflow, else None."""
        if line.parent_task_id is not None:
            parent = full(line.parent_task_id)
            if (parent in shown or parent in self._known) and parent != full(line.task_id):
                return parent
        if line.workflow_id is None or line.workflow_id not in self._attempts:
            return None
        index = self._attempts[line.workflow_id]
        if index.last == 1:
            return line.workflow_id
        at = line.started_at if line.started_at is not None else line.submitted_at
        return attempt_key(line.workflow_id, index.find(journal.header, at))

    def _status_of(self, line: _Line, task_id: str, *, alive: bool) -> str | None:
        """Return the status of the row to which a line leads; None if another line leads to it."""
        is_open = isinstance(line, _OpenLine) or line.status in OPEN_STATUSES
        if is_open and (task_id in self._ended or (isinstance(line, _OpenLine) and task_id in self._started)):
            return None
        for status, task_ids in self._corrected.items():
            if task_id in task_ids:
                return status
        if not is_open:
            return line.status or ""
        if not alive:
            return Status.INTERRUPTED.value
        return Status.RUNNING.value if isinstance(line, _OpenLine) else line.status

    def _read_rows(self, keys: set[str]) -> None:
        """Read the rows of what is shown, with all that their lines say."""
        ids = set(map(id_of_key, keys))
        records = [(journal, self._records_of(journal, ids)) for journal in self._journals]
        if self._files is not None:
            records[0] = (records[0][0], chain(records[0][1], self._files.tasks(ids)))
        rows = fold(records, merge=True)
        for row, fields in zip(rows, iter_fields(rows, LABEL_FIELDS), strict=True):
            of_workflow = attempt_key(row.workflow_id or "", row.attempt)
            key = str(row.task_id) if isinstance(row, Task) else of_workflow
            self._fields[key] = fields

    def _records_of(self, journal: JournalSummary, keys: set[str]) -> Iterator[Record]:
        """Yield the records of some tasks and workflows; the other lines are not decoded as a whole."""
        full = _full_ids(journal)

        def decode(line: bytes) -> Record | None:
            if line.startswith(_WORKFLOW):
                record = decode_restored(line)
                is_shown = isinstance(record, Workflow) and record.workflow_id in keys
                return _without(record, _LARGE_FIELDS) if is_shown else None
            if line.startswith((*_TASKS, _CORRECTION)) and full(_decoder.decode(line).task_id) in keys:
                return decode_restored(line)
            return None

        digest = self._digests.get(journal.path)
        workflows = () if digest is None else map(decode, digest.workflows())
        for record in chain(workflows, self._decoded(journal, decode)):
            if record is not None:
                yield record

    def _labels(self, parent: str | None, keys: list[str]) -> list[str]:
        above = self._fields.get(parent) if parent is not None else None
        return labels_of(
            [self._fields.get(key, {"task_id": key}) for key in keys],
            None if above is None else shown_rank(above),
        )


def _full_ids(journal: JournalSummary) -> Callable[[LocalId], str]:
    """Return what completes the ids of a journal."""
    header = journal.header
    prefix, first, ancestors = f"{header.journal_id}-", header.first_number, header.ancestors

    def full(local: LocalId) -> str:
        if type(local) is int and local >= first:
            return prefix + str(local)
        return full_id(local, header.journal_id, ancestors, first)

    return full


def _without(record: Record, names: Sequence[str]) -> Record:
    present = {name: None for name in names if getattr(record, name, None) is not None}
    return msgspec.structs.replace(record, **present) if present else record


def _usable(digests: Mapping[Path, Digest]) -> dict[Path, Digest]:
    """Return digests if the tasks of their journals stand by themselves; none where one does not."""
    return dict(digests) if all(digest.plain for digest in digests.values()) else {}


def outline_lines(
    journals: Sequence[JournalSummary], digests: Mapping[Path, Digest], **options: Any
) -> Iterator[str]:
    """Return the lines of a campaign; see :class:`Outline`. Damaged Parquet files are left and said."""
    paths = {journal.path for journal in journals}
    used = {path: digest for path, digest in digests.items() if path in paths}
    try:
        return Outline(journals, digests=used, **options).lines()
    except UnreadableFilesError as error:
        report_unusable(dict.fromkeys(error.paths, "is damaged"))
        return Outline(journals, **options).lines()
