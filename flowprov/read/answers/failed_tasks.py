"""Failed tasks of a journal, of which those beside a run of their name are runs, too.

Flows in: the tasks that failed, in the order of a journal. Flows out: those of given names, and the names of
the others.

A task that failed before its loop began is a run where another task of its name is one, and that may be known
only at the end. Until then few failed tasks are held back. Where too many failed, the journal is read again,
with the names that matter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from collections.abc import Set as AbstractSet
from typing import NamedTuple

import msgspec

from flowprov.read.answers.loop_extremes import Key, Placed
from flowprov.read.labels import ITERATION
from flowprov.records import LocalId, Metrics, Record, Status, Task

FAILED = (Status.ERROR.value, Status.INTERRUPTED.value)
_MAX_HELD = 1_000  # tasks of a journal, until it is known which matter
_MAX_NAMES = 1_000


class FailedNames(msgspec.Struct):
    """By names, what the extract of a journal tells of the tasks that failed.

    Attributes
    ----------
    runs
        The names of the outermost tasks around what was measured in this journal.
    considered
        The names of which all failed tasks are in the extract: ``runs``, and those that it was asked for.
    left_out
        Further names of failed tasks; None if these are too many.
    """

    runs: set[str] = set()
    considered: set[str] = set()
    left_out: set[str] | None = set()

    def missing(self, names: AbstractSet[str]) -> set[str]:
        """Return of which names failed tasks are left out, or may be."""
        unknown = set(names) - self.considered
        return unknown if self.left_out is None else unknown & self.left_out


def has_failed(task: Task) -> bool:
    """Whether a task failed, or its process went away; iterations do not count as tasks here."""
    return task.status in FAILED and task.subtype != ITERATION


class HeldTask(NamedTuple):
    """A failed task that is held back: the position and the record of its end, and what came before."""

    key: Key
    position: int
    task: Task
    earlier: list[Placed]

    @property
    def name(self) -> str | None:
        """What it did."""
        return next((one.activity_id for one in self._records() if one.activity_id is not None), None)

    @property
    def parent(self) -> LocalId | None:
        """The task in which it was."""
        return next((one.parent_task_id for one in self._records() if one.parent_task_id is not None), None)

    def _records(self) -> list[Task]:
        return [self.task, *(record for _, record in reversed(self.earlier) if isinstance(record, Task))]


class FailedTasks:
    """Holds failed tasks back until it is known which of them matter.

    Parameters
    ----------
    names
        The names that matter; None if that is not known yet: then few tasks are held.

    Attributes
    ----------
    left_out
        The names of the tasks that are not held; None if these are too many.
    keys
        The tasks that are held.
    """

    def __init__(self, names: AbstractSet[str] | None) -> None:
        self.left_out: set[str] | None = set()
        self.keys: set[Key] = set()
        self._names = None if names is None else frozenset(names)
        self._held: dict[str, list[HeldTask]] = {}

    def add(self, failed: HeldTask) -> list[HeldTask]:
        """Add a task; return those that are not held, or not any more."""
        name = failed.name
        if name is None or not self._may_matter(name):
            self.leave_out(name)
            return [failed]
        self._held.setdefault(name, []).append(failed)
        self.keys.add(failed.key)
        if self._names is not None or len(self.keys) <= _MAX_HELD:
            return []
        most = max(self._held, key=lambda one: len(self._held[one]))
        released = self._held.pop(most)
        self.keys.difference_update(one.key for one in released)
        self.leave_out(most)
        return released

    def _may_matter(self, name: str) -> bool:
        if self._names is not None:
            return name in self._names
        return not self.has_left_out({name})

    def has_left_out(self, names: AbstractSet[str]) -> bool:
        """Whether tasks of some names were not held, or may be not."""
        unknown = set(names).difference(self._names or ())
        return bool(unknown) and (self.left_out is None or not self.left_out.isdisjoint(unknown))

    def release(self) -> list[HeldTask]:
        """Return what is held, and hold nothing any more."""
        held, self._held = self._held, {}
        self.keys.clear()
        return [one for tasks in held.values() for one in tasks]

    def leave_out(self, name: str | None) -> None:
        """Note the name of a task that is left out."""
        if name is None or self.left_out is None:
            return
        self.left_out.add(name)
        if len(self.left_out) > _MAX_NAMES:
            self.left_out = None


def names_of_runs(
    records: Iterable[Record], loops: Iterable[Key], key_of: Callable[[LocalId], Key]
) -> set[str]:
    """Return the names of the outermost tasks around what was measured.

    Parameters
    ----------
    records
        The records of a journal that are kept: loops, what was logged, and the tasks around them.
    loops
        The tasks and iterations in which loops ran.
    key_of
        Returns the key of a task.
    """
    tasks: dict[Key, list[Task]] = {}
    measured = set(loops)
    for record in records:
        if isinstance(record, Task):
            tasks.setdefault(key_of(record.task_id), []).append(record)
        around = _measured_in(record)
        if around is not None:
            measured.add(key_of(around))
    return _outermost_names(measured, tasks, key_of)


def _measured_in(record: Record) -> LocalId | None:
    """Return the task in which an iteration ran, or something was logged; None for other records."""
    if isinstance(record, Metrics):
        return record.task_id
    if isinstance(record, Task) and record.subtype == ITERATION:
        return record.parent_task_id
    return None


def _outermost_names(
    measured: Iterable[Key], tasks: Mapping[Key, list[Task]], key_of: Callable[[LocalId], Key]
) -> set[str]:
    """Return the names of the tasks around, of which the journal names none further out.

    What lies in a task of another journal counts, too: that may be an iteration.
    """
    names: set[str] = set()
    stack: list[tuple[Key, str | None]] = [(key, None) for key in measured]
    visited = set(stack)
    while stack:
        key, inner = stack.pop()
        for task in tasks.get(key, ()):
            name = inner if task.subtype == ITERATION else task.activity_id
            parent = None if task.parent_task_id is None else key_of(task.parent_task_id)
            if parent is not None and parent in tasks:
                if (parent, name) not in visited:
                    visited.add((parent, name))
                    stack.append((parent, name))
            elif name is not None:
                names.add(name)
    return names
