"""Make the extract of a journal, in one reading as a rule.

Flows in: the records of one journal. Flows out: its extract; see :mod:`flowprov.read.answers.extract`.
"""

from __future__ import annotations

from operator import itemgetter

from flowprov.journal.summary import JournalSummary
from flowprov.read.answers.extract import NO_TASKS, NOTHING, Counts, Extract, Wanted
from flowprov.read.answers.failed_tasks import (
    FailedNames,
    FailedTasks,
    HeldTask,
    has_failed,
    names_of_runs,
)
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


class ExtractBuilder:
    """Chooses the records of an extract; they may have to be read again, as a later one tells what matters.

    Parameters
    ----------
    header
        The header of the journal.
    wanted
        What extracts of other journals name.
    every_iteration
        Whether to keep all iterations: where answers depend on each step.
    """

    def __init__(self, header: Header, wanted: Wanted = NOTHING, *, every_iteration: bool = False) -> None:
        self._header = header
        self._prefix = f"{header.journal_id}-"
        self._every_iteration = every_iteration
        self._asked = wanted
        self._asked_keys = set(map(self._key, wanted.tasks))
        self._wanted: set[Key] = set(self._asked_keys)
        self._special: set[Key] = set()  # tasks of which all records count: corrected, or recorded twice
        self._names = set(wanted.names)  # of which failed tasks count
        self._readings = 0
        self._left_out = self._iterations = NO_TASKS
        self.begin()

    def begin(self) -> None:
        """Begin a reading of the journal."""
        self._readings += 1
        self._incomplete = False
        self._kept: dict[Key, None] = {}
        self._known_tasks = self._left_out.without(self._iterations)  # from the reading before
        self._failed = FailedTasks(self._names if self._readings > 1 else None)
        self._left_out = TaskIds()
        self._iterations = TaskIds()
        self._open: dict[Key, list[Placed]] = {}
        self._records: list[Placed] = []
        self._loops = Loops()
        self._counts = Counts()
        self._unusual: set[int] = set()
        self._foreign = False
        self._runs: set[str] = set()  # the names of runs

    def is_complete(self) -> bool:
        """End a reading; return whether no later record told that an earlier one matters.

        Else the journal must be read again: :meth:`begin`, then :meth:`add` for each record.
        """
        for records in self._open.values():
            for position, record in records:
                self._keep(position, record)  # type: ignore[arg-type]
                self._unusual.add(position)
        self._open.clear()
        self._choose_failed()
        return not self._incomplete

    def add(self, position: int, record: Record) -> None:
        """Add the next record."""
        kind = type(record)
        if kind is Task:
            self._add_task(position, record)  # type: ignore[arg-type]
        elif kind is OpenTask:
            key = self._key(record.task_id)  # type: ignore[union-attr, arg-type]
            self._foreign |= isinstance(record.task_id, str)  # type: ignore[union-attr]
            is_left_out = key in self._failed.keys or self._is_left_out(key)
            if not is_left_out or key in self._special:
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
            FailedNames(self._runs, self._names, self._failed.left_out),
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
        if key in self._kept or key in self._failed.keys or self._is_left_out(key):
            self._see_again(key)
        if task.status in OPEN_STATUSES:
            self._open.setdefault(key, []).append((position, task))
            return
        earlier = self._open.pop(key, None) if self._open else None
        if isinstance(key, str) or key in self._special or _starts_in(earlier):
            self._unusual.update((position, *(place for place, _ in earlier or ())))
        is_plain = task.subtype == ITERATION and not _has_no_end(task)
        if is_plain and self._may_leave_out(key, earlier):
            self._add_iteration(position, key, task, earlier)  # type: ignore[arg-type]
        elif self._is_kept(key) or _has_no_end(task) or _starts_iteration(task, earlier):
            for place, record in earlier or ():
                self._keep(place, record)  # type: ignore[arg-type]
            self._keep(position, task)
        elif has_failed(task):
            self._add_failed(HeldTask(key, position, task, earlier or []))
        else:
            self._leave_out_task(key, task, earlier)  # type: ignore[arg-type]

    def _leave_out_task(self, key: int, task: Task, earlier: list[Placed] | None) -> None:
        self._leave_out(key, task, earlier)
        self._counts.tasks += 1
        self._counts.errors += task.status == Status.ERROR.value

    def _add_failed(self, failed: HeldTask) -> None:
        """Hold a failed task until it is known whether it counts."""
        if self._lies_in_task(failed):
            self._leave_out_failed(failed)
            return
        for released in self._failed.add(failed):
            self._leave_out_failed(released)

    def _lies_in_task(self, failed: HeldTask) -> bool:
        """Whether a failed task lies in another one that is left out: then it is no run."""
        if failed.parent is None:
            return False
        key = self._key(failed.parent)
        if not isinstance(key, int):
            return False
        if self._is_left_out(key):
            return not self._iterations.has_number("", key)
        may_be_kept = key in self._wanted or key in self._special
        return self._known_tasks.has_number("", key) and not may_be_kept

    def _leave_out_failed(self, failed: HeldTask) -> None:
        self._leave_out_task(failed.key, failed.task, failed.earlier)  # type: ignore[arg-type]

    def _choose_failed(self) -> None:
        """Keep the failed tasks that are held and have the name of a run; leave out the others."""
        records = [record for _, record in self._records]
        around = [task for _, task in self._loops.around.values()]
        measured = self._asked_keys.union(self._loops.parents())
        self._runs = names_of_runs([*records, *around], measured, self._key)
        self._names |= self._runs
        held = self._failed.release()
        for one in held:
            if one.name not in self._names:
                self._failed.leave_out(one.name)
                self._leave_out_failed(one)
        for one in held:
            if one.name not in self._names:
                continue
            if self._lies_in_task(one):
                self._leave_out_failed(one)
            else:
                for place, record in (*one.earlier, (one.position, one.task)):
                    self._keep(place, record)  # type: ignore[arg-type]
        self._incomplete |= self._failed.has_left_out(self._names)

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
        if left_out or key in self._failed.keys or key in self._kept:
            self._see_again(key)
        else:
            self._special.add(key)
        self._records.append((position, correction))
        self._unusual.add(position)


def _starts_in(earlier: list[Placed] | None) -> list[Task]:
    """Return the records of starts among what came before the end of a task."""
    return [record for _, record in earlier or () if type(record) is Task]


def _has_no_end(task: Task) -> bool:
    """Whether the record of an end only says that none came, as a Dask worker closed before."""
    return task.status == Status.INTERRUPTED.value


def _starts_iteration(task: Task, earlier: list[Placed] | None) -> bool:
    """Whether a task is an iteration that has a start of its own: both records are needed then."""
    starts = _starts_in(earlier)
    return bool(starts) and ITERATION in (task.subtype, *(start.subtype for start in starts))


def extract_of(
    journal: JournalSummary, wanted: Wanted = NOTHING, *, every_iteration: bool = False
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
