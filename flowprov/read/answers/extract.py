"""The extract of a journal: the records on which answers about runs depend, and counts of the others.

Flows in: the records of one journal, once. Flows out: few of them, and numbers.

Most records of a training say nothing of a run as a whole: forwards, calls, and all iterations but those with
the last, the smallest or the largest value of a metric. An extract holds the workflows, what was logged, the
tasks around iterations, what has no end, and of the iterations of one loop those few. The answers that follow
from the extracts of a campaign are those that follow from all its records.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from operator import itemgetter
from typing import NamedTuple

import msgspec

from flowprov.journal.summary import JournalSummary
from flowprov.read.answers.loop_extremes import Key, LoopKey, Loops, Placed
from flowprov.read.decoding import reader_of
from flowprov.read.labels import ITERATION
from flowprov.read.task_ids import TaskIds
from flowprov.read.workflows import OPEN_STATUSES
from flowprov.records import (
    Correction,
    Header,
    LocalId,
    Metrics,
    OpenTask,
    Record,
    Status,
    Task,
    Version,
    Workflow,
)

_LOGGED = "log_metrics()"  # the name of the loop of what was logged: no loop of a program has it
_MAX_NUMBER = 10**9  # no journal gives larger numbers to its tasks
_MAX_READINGS = 8  # of a journal whose records tell ever later what matters: then all of them are kept


class Counts(msgspec.Struct):
    """What is known of the records that an extract leaves out.

    Attributes
    ----------
    tasks, errors
        How many tasks are left out that are no iterations, and how many of these ended with an error.
    started_at, ended_at
        The earliest start and the latest end of all tasks of the journal.
    """

    tasks: int = 0
    errors: int = 0
    started_at: int | None = None
    ended_at: int | None = None

    def add(self, other: Counts) -> None:
        """Add the counts of another journal."""
        self.tasks += other.tasks
        self.errors += other.errors
        self.add_times(other.started_at, other.ended_at)

    def add_times(self, started_at: int | None, ended_at: int | None) -> None:
        """Extend the time over which tasks ran."""
        if started_at is not None and (self.started_at is None or started_at < self.started_at):
            self.started_at = started_at
        if ended_at is not None and (self.ended_at is None or ended_at > self.ended_at):
            self.ended_at = ended_at


NO_TASKS = TaskIds()


class Extract(NamedTuple):
    """The records of a journal on which answers depend, in their order, and counts of the others.

    Attributes
    ----------
    records
        The records, each with its position.
    counts
        Of the records that are left out.
    elsewhere
        Full ids of tasks that these records name, and that have no number of this journal. What other
        journals hold of them belongs to their extracts.
    unusual
        Positions of the records of tasks of which the record of the end does not tell everything: those that
        have a start of their own, are open, corrected, recorded twice, or known by an id of another journal.
    asked
        The tasks of this journal that it holds because other extracts name them.
    foreign
        Whether the journal holds records of tasks that have no number of its process.
    left_out
        The numbers of the tasks that are left out.
    """

    records: list[Placed]
    counts: Counts
    elsewhere: set[str]
    unusual: set[int]
    asked: frozenset[str] = frozenset()
    foreign: bool = False
    left_out: TaskIds = NO_TASKS

    def leaves_out(self, task_id: str) -> bool:
        """Whether a task of the journal, by its full id, is recorded there and left out here."""
        digits = task_id.rpartition("-")[2]
        return digits.isdecimal() and self.left_out.has_number("", int(digits))


class ExtractBuilder:
    """Chooses the records of an extract; they may have to be read again, as a later one tells what matters.

    Parameters
    ----------
    header
        The header of the journal.
    wanted
        Full ids of tasks of this journal that extracts of other journals name.
    every_iteration
        Whether to keep all iterations: where answers depend on each step.
    """

    def __init__(self, header: Header, wanted: Iterable[str] = (), *, every_iteration: bool = False) -> None:
        self._header = header
        self._prefix = f"{header.journal_id}-"
        self._every_iteration = every_iteration
        self._asked = frozenset(wanted)
        self._asked_keys = set(map(self._key, self._asked))
        self._wanted: set[Key] = set(self._asked_keys)
        self._special: set[Key] = set()  # tasks of which all records count: corrected, or recorded twice
        self._readings = 0
        self.begin()

    def begin(self) -> None:
        """Begin a reading of the journal."""
        self._readings += 1
        self._incomplete = False
        self._kept: dict[Key, None] = {}
        self._left_out = TaskIds()
        self._iterations = TaskIds()
        self._open: dict[Key, list[Placed]] = {}
        self._records: list[Placed] = []
        self._loops = Loops()
        self._counts = Counts()
        self._unusual: set[int] = set()
        self._foreign = False

    def is_complete(self) -> bool:
        """End a reading; return whether no later record told that an earlier one matters.

        Else the journal must be read again: :meth:`begin`, then :meth:`add` for each record.
        """
        for records in self._open.values():
            for position, record in records:
                self._keep(position, record)  # type: ignore[arg-type]
                self._unusual.add(position)
        self._open.clear()
        return not self._incomplete

    def add(self, position: int, record: Record) -> None:
        """Add the next record."""
        kind = type(record)
        if kind is Task:
            self._add_task(position, record)  # type: ignore[arg-type]
        elif kind is OpenTask:
            key = self._key(record.task_id)  # type: ignore[union-attr, arg-type]
            self._foreign |= isinstance(record.task_id, str)  # type: ignore[union-attr]
            if not self._is_left_out(key) or key in self._special:
                self._open.setdefault(key, []).append((position, record))
        elif kind is Correction:
            self._add_correction(position, record)  # type: ignore[arg-type]
        elif kind is Metrics:
            self._add_metrics(position, record)  # type: ignore[arg-type]
        elif kind is Workflow or kind is Version:
            self._records.append((position, record))

    def result(self) -> Extract:
        """Return the extract, after a complete reading."""
        records: dict[int, Record] = {**dict(self._records), **dict(self._loops.chosen())}
        tasks = [record for record in records.values() if isinstance(record, (Task, Correction, Metrics))]
        for record in tasks:  # grows with each iteration around another one
            parent = record.parent_task_id if isinstance(record, Task) else record.task_id
            around = None if parent is None else self._loops.around.get(self._key(parent))
            if around is not None and around[0] not in records:
                records[around[0]] = around[1]
                tasks.append(around[1])
        named = {self._key(task.task_id) for task in tasks if task.task_id is not None}
        elsewhere = {key for key in self._wanted | named if isinstance(key, str)}
        return Extract(
            sorted(records.items(), key=itemgetter(0)),
            self._counts,
            elsewhere,
            self._unusual,
            self._asked,
            self._foreign,
            self._left_out,
        )

    def _key(self, local: LocalId) -> Key:
        header = self._header
        if type(local) is int and local >= header.first_number:
            return local
        full = header.full_id(local)
        digits = full.removeprefix(self._prefix)
        is_own = len(digits) < len(full) and digits.isascii() and digits.isdecimal() and len(digits) < 19
        return int(digits) if is_own and str(int(digits)) == digits else full

    def _want(self, local: LocalId | None) -> None:
        """Want the task around something that counts."""
        if local is not None and (key := self._key(local)) not in self._wanted:
            self._wanted.add(key)
            self._incomplete |= self._is_left_out(key)

    def _is_left_out(self, key: Key) -> bool:
        return isinstance(key, int) and self._left_out.has_number("", key)

    def _add_task(self, position: int, task: Task) -> None:
        key = self._key(task.task_id)
        self._foreign |= isinstance(task.task_id, str)
        if key in self._kept or self._is_left_out(key):
            self._see_again(key)
        if task.status in OPEN_STATUSES:
            self._open.setdefault(key, []).append((position, task))
            return
        earlier = self._open.pop(key, None) if self._open else None
        if isinstance(key, str) or key in self._special or _starts_in(earlier):
            self._unusual.update((position, *(place for place, _ in earlier or ())))
        if task.subtype == ITERATION and self._may_leave_out(key, earlier):
            self._add_iteration(position, key, task, earlier)  # type: ignore[arg-type]
        elif self._is_kept(key) or _starts_iteration(task, earlier):
            for place, record in earlier or ():
                self._keep(place, record)  # type: ignore[arg-type]
            self._keep(position, task)
        else:
            self._leave_out(key, task, earlier)  # type: ignore[arg-type]
            self._counts.tasks += 1
            self._counts.errors += task.status == Status.ERROR.value

    def _may_leave_out(self, key: Key, earlier: list[Placed] | None) -> bool:
        """Whether an iteration may be left out, as far as its own records tell."""
        if isinstance(key, str) or not 0 <= key < _MAX_NUMBER or self._readings > _MAX_READINGS:
            return False
        if key in self._special or key in self._asked_keys:
            return False
        if _starts_in(earlier):  # what its start tells stands in no other record
            return False
        return key not in self._wanted or not self._every_iteration

    def _is_kept(self, key: Key) -> bool:
        if isinstance(key, str) or not 0 <= key < _MAX_NUMBER or self._readings > _MAX_READINGS:
            return True
        return key in self._wanted or key in self._special

    def _keep(self, position: int, task: Task) -> None:
        self._records.append((position, task))
        self._kept[self._key(task.task_id)] = None
        self._want(task.parent_task_id)

    def _see_again(self, key: Key) -> None:
        """Count all records of a task; if some were left out, they have to be read again."""
        if key not in self._special:
            self._special.add(key)
            self._incomplete = True

    def _leave_out(self, key: int, task: Task, earlier: list[Placed] | None) -> None:
        self._left_out.add_number("", key)
        starts = _starts_in(earlier)
        if len(starts) > 1:
            self._see_again(key)
        known = (*starts, task)
        ended_at = next((one.ended_at for one in reversed(known) if one.ended_at is not None), None)
        started_at = next((one.started_at for one in reversed(known) if one.started_at is not None), None)
        self._counts.add_times(started_at, ended_at)

    def _add_iteration(self, position: int, key: int, task: Task, earlier: list[Placed] | None) -> None:
        parent = None if task.parent_task_id is None else self._key(task.parent_task_id)
        loop = LoopKey(task.workflow_id, parent, task.activity_id, task.rank)
        if key in self._wanted:
            self._counts.add_times(task.started_at, task.ended_at)
            self._loops.add_around(key, loop, position, task)
            self._kept[key] = None
        else:
            self._leave_out(key, task, earlier)
            self._iterations.add_number("", key)
        if self._loops.add(loop, position, task):
            self._want(task.parent_task_id)
        if self._every_iteration:
            self._records.append((position, task))

    def _add_metrics(self, position: int, metrics: Metrics) -> None:
        self._want(metrics.task_id)
        if self._every_iteration or metrics.step is not None:
            self._records.append((position, metrics))
            return
        parent = None if metrics.task_id is None else self._key(metrics.task_id)
        self._loops.add(LoopKey(metrics.workflow_id, parent, _LOGGED, None), position, metrics)

    def _add_correction(self, position: int, correction: Correction) -> None:
        key = self._key(correction.task_id)
        self._foreign |= isinstance(correction.task_id, str)
        left_out = self._is_left_out(key)
        if left_out and correction.status is None and not self._iterations.has_number("", key):  # type: ignore[arg-type]
            return  # it adds values to a task that does not count
        if left_out or key in self._kept:
            self._see_again(key)
        else:
            self._special.add(key)
        self._records.append((position, correction))
        self._unusual.add(position)


def _starts_in(earlier: list[Placed] | None) -> list[Task]:
    """Return the records of starts among what came before the end of a task."""
    return [record for _, record in earlier or () if type(record) is Task]


def _starts_iteration(task: Task, earlier: list[Placed] | None) -> bool:
    """Whether a task is an iteration that has a start of its own: both records are needed then."""
    starts = _starts_in(earlier)
    return bool(starts) and ITERATION in (task.subtype, *(start.subtype for start in starts))


def extract_of(
    journal: JournalSummary, wanted: Iterable[str] = (), *, every_iteration: bool = False
) -> Extract:
    """Read a journal and return its extract; see :class:`ExtractBuilder`."""
    builder = ExtractBuilder(journal.header, wanted, every_iteration=every_iteration)
    for position, record in reader_of(journal).read():
        builder.add(position, record)
    return finish(builder, journal)


def finish(builder: ExtractBuilder, journal: JournalSummary) -> Extract:
    """Return the extract of a journal that was read once; read it again as often as that takes."""
    while not builder.is_complete():
        builder.begin()
        for position, record in reader_of(journal).read():
            builder.add(position, record)
    return builder.result()


def unanswered(extracts: Mapping[str, Extract]) -> dict[str, set[str]]:
    """Return which journals hold tasks that extracts of others name, and that theirs was not asked for.

    Parameters
    ----------
    extracts
        The extracts of a campaign, by the id of the journal.

    Returns
    -------
    dict of set
        All tasks for which the extract of a journal must be asked; journals that were asked are left out.
    """
    named: dict[str, set[str]] = {}
    for extract in extracts.values():
        for task_id in extract.elsewhere:
            home = task_id.rpartition("-")[0]
            if home in extracts and extracts[home].leaves_out(task_id):
                named.setdefault(home, set()).add(task_id)
    return {
        home: task_ids | extracts[home].asked
        for home, task_ids in named.items()
        if not task_ids <= extracts[home].asked
    }
