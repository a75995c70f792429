"""Draw the tree of a campaign of any size, in memory that does not grow with the number of its tasks.

Flows in: the journals of a campaign. Flows out: the lines of its tree. The journals are read several times:
once for the workflows, and for which tasks there are and have an end; once for each level of tasks, to choose
those that are shown and to count the others; and once for all that the chosen ones hold. Few programs have
more than a dozen levels of tasks. If there are more, one reading places all the tasks that are left: it takes
memory for each of their parents, and spares a reading for each level.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from flowprov.journal.summary import JournalSummary
from flowprov.read.attempts import AttemptIndex, attempt_key, id_of_key
from flowprov.read.digest import Digest
from flowprov.read.highlights import Highlights, LastMetrics
from flowprov.read.labels import FORWARDS, LABEL_FIELDS, labels_of, shown_rank, titled
from flowprov.read.lineage import iter_fields
from flowprov.read.outline_lines import (
    CORRECTION,
    TASKS,
    WORKFLOW,
    CampaignLines,
    Line,
    OpenLine,
    TaskLine,
    full_ids,
)
from flowprov.read.parquet_files import UnreadableFilesError, report_unusable
from flowprov.read.rows import FoldedCampaign, fold, fold_campaign
from flowprov.read.siblings import Kind, Siblings, TreeNode, draw, rank_of, walk, without_circles
from flowprov.read.task_files import TaskFiles, TaskGroup
from flowprov.read.task_ids import TaskIds
from flowprov.read.workflows import OPEN_STATUSES
from flowprov.records import LocalId, Record, Status, Task, Workflow

_MAX_READINGS = 12  # for one level of tasks each
_NO_TIME = sys.maxsize  # what has no time comes last


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
        self._most = most
        self._depth = depth
        self._fold_forwards = fold_forwards
        self._begin(CampaignLines(journals, digests))

    def _begin(self, lines: CampaignLines) -> None:
        self._lines = lines
        self._attempts: dict[str, AttemptIndex] = {}
        self._known, self._started, self._ended, self._parents = (TaskIds() for _ in range(4))
        self._corrected: dict[str, TaskIds] = {}  # by status
        self._inside: dict[str | None, Siblings] = {}
        self._highlights = Highlights()
        self._shown: set[str] = set()
        self._fields: dict[str, dict[str, Any]] = {}  # of what is shown

    def lines(self) -> Iterator[str]:
        """Read the journals; return the lines, indented by their level."""
        self.read()
        return draw(self.nodes())

    def nodes(self) -> Iterator[TreeNode]:
        """Return the nodes of the tree that was read."""
        return walk(self._inside, self._labels, self._depth)

    def fields(self, key: str) -> dict[str, Any]:
        """Return what is known of a task or workflow that is shown: :data:`LABEL_FIELDS` and ``metrics``."""
        return self._fields.get(key, {"task_id": key})

    @property
    def failures(self) -> int:
        """How many tasks and workflows failed."""
        return self._highlights.failures

    def slowest(self) -> list[str]:
        """Return the keys of the slowest tasks that are not in the tree, the slowest first."""
        return self._hidden(self._highlights.slowest())

    def failed(self) -> list[str]:
        """Return the keys of those that failed last and are not in the tree."""
        return self._hidden(self._highlights.failed())

    def label(self, key: str) -> str:
        """Return the line of a task or workflow by itself."""
        return labels_of([self.fields(key)])[0]

    def _hidden(self, keys: list[str]) -> list[str]:
        return [key for key in keys if key not in self._shown]

    def read(self) -> None:
        """Read the journals: in their Parquet files where that is possible, else line by line."""
        try:
            done = self._read()
        except UnreadableFilesError as error:
            report_unusable(dict.fromkeys(error.paths, "is damaged"))
            done = False
        if not done:
            self._begin(CampaignLines(self._lines.journals, {}))
            self._read()

    def _read(self) -> bool:
        """Read the journals; return False if their Parquet files do not tell all."""
        lines = self._lines
        self._place_workflows(fold_campaign((journal, self._scan(journal)) for journal in lines.journals))
        if lines.files is not None:
            if not lines.stand_alone() or any(index.last > 1 for index in self._attempts.values()):
                return False
            for line in lines.tasks_of_others():
                self._note_status(line, str(line.task_id))
            self._highlights.add_files(lines.files)
        levels: dict[str | None, int] = {None: -1}
        parents: list[str | None] = [None]
        for parent in parents:  # grows with each workflow that is shown
            parents += self._show_inside(parent, levels)
        for _ in range(_MAX_READINGS):
            if not parents:
                break
            self._place_tasks(set(parents))
            parents = self._show_tasks(parents, levels)
        if parents and lines.files is not None:
            return False
        if parents:
            self._place_tasks(_AllBut(levels.keys() - set(parents)))
        while parents:
            parents = self._show_tasks(parents, levels)
        self._shown = {key for key in levels if key is not None}
        self._read_rows(self._shown.union(self._highlights.slowest(), self._highlights.failed()))
        return True

    def _show_tasks(self, parents: list[str | None], levels: dict[str | None, int]) -> list[str | None]:
        """Give a level to the tasks that are shown inside parents; return those that are parents too."""
        shown = [key for parent in parents for key in self._show_inside(parent, levels)]
        return [key for key in shown if self._lines.files is not None or key in self._parents]

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
        full, lines = full_ids(journal), self._lines

        def decode(line: bytes) -> Record | None:
            if line.startswith(WORKFLOW):
                return lines.workflow(line)
            if line.startswith(CORRECTION):
                correction = lines.task(journal, line)
                if correction.status is not None:
                    self._corrected.setdefault(correction.status, TaskIds()).add(full(correction.task_id))
            elif line.startswith(TASKS):
                self._note(lines.task(journal, line), full)
            return None

        if (digest := lines.digest(journal)) is not None:
            self._known.add_numbers(digest.header.journal_id, digest.recorded.numbers)
        return lines.decoded(journal, decode)

    def _note(self, line: Line, full: Callable[[LocalId], str]) -> None:
        task_id = full(line.task_id)
        self._known.add(task_id)
        if line.parent_task_id is not None:
            self._parents.add(full(line.parent_task_id))
        if isinstance(line, TaskLine):
            self._highlights.add(task_id, line.subtype, line.status, line.started_at, line.ended_at)
            self._note_status(line, task_id)

    def _note_status(self, line: TaskLine, task_id: str) -> None:
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
            if row.status == Status.ERROR.value:
                self._highlights.add_failure(key, row.ended_at)

    def _place_tasks(self, parents: Container[str | None]) -> None:
        """Place each task that is directly inside one of the parents beside its siblings."""
        placed = TaskIds()
        # Of a task of which several files speak, what the earliest one says counts.
        self._place_lines(self._lines.tasks_of_others(), self._lines.journals[0], parents, placed)
        for journal in self._lines.journals:

            def decode(line: bytes, journal: JournalSummary = journal) -> Line | None:
                return self._lines.task(journal, line) if line.startswith(TASKS) else None

            self._place_lines(self._lines.decoded(journal, decode), journal, parents, placed)
        if self._lines.files is not None and isinstance(parents, set):
            self._place_groups(self._lines.files, parents)

    def _place_lines(
        self, lines: Iterable[Line], journal: JournalSummary, parents: Container[str | None], placed: TaskIds
    ) -> None:
        full = full_ids(journal)
        for line in lines:
            if (parent := self._parent_of(line, full, parents, journal)) not in parents:
                continue
            task_id = full(line.task_id)
            status = self._status_of(line, task_id, alive=journal.alive)
            if status is not None and task_id not in placed:
                placed.add(task_id)
                self._place(line, task_id, status, parent)

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

    def _place(self, line: Line, task_id: str, status: str, parent: str | None) -> None:
        folded = self._fold_forwards and line.subtype in FORWARDS
        times = (line.started_at, line.submitted_at, line.ended_at, _NO_TIME)
        at = next(time for time in times if time is not None)
        duration = (line.ended_at or 0) - line.started_at if line.started_at and line.ended_at else 0
        kind = Kind(titled(line.activity_id, line.subtype), status, folded)
        self._siblings(parent).add(task_id, at, kind, duration)

    def _parent_of(
        self,
        line: Line,
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

    def _status_of(self, line: Line, task_id: str, *, alive: bool) -> str | None:
        """Return the status of the row to which a line leads; None if another line leads to it."""
        is_open = isinstance(line, OpenLine) or line.status in OPEN_STATUSES
        if is_open and (task_id in self._ended or (isinstance(line, OpenLine) and task_id in self._started)):
            return None
        for status, task_ids in self._corrected.items():
            if task_id in task_ids:
                return status
        if not is_open:
            return line.status or ""
        if not alive:
            return Status.INTERRUPTED.value
        return Status.RUNNING.value if isinstance(line, OpenLine) else line.status

    def _read_rows(self, keys: set[str]) -> None:
        """Read the rows of what is shown, with all that their lines say."""
        ids = set(map(id_of_key, keys))
        logged = LastMetrics(self._attempts)
        rows = fold(self._lines.records(ids, logged), merge=True)
        for row, fields in zip(rows, iter_fields(rows, LABEL_FIELDS), strict=True):
            of_workflow = attempt_key(row.workflow_id or "", row.attempt)
            key = str(row.task_id) if isinstance(row, Task) else of_workflow
            self._fields[key] = {**fields, "metrics": logged.values_of(key)}

    def _labels(self, parent: str | None, keys: list[str]) -> list[str]:
        above = self._fields.get(parent) if parent is not None else None
        return labels_of(
            [self.fields(key) for key in keys],
            None if above is None else shown_rank(above),
        )
