"""Which task produced the value that a Dask task was given.

Flows in: tasks whose dependencies are Dask keys (``dask:<key>``), and what is known of tasks that were left
out. Flows out: the same tasks with task ids in their place. A key comes back on every resubmission and after
every lost result, so it names many executions; the one that counts is the last that finished before the
dependent task started. Where that one was left out, its own dependencies stand in its place.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from typing import TypeAlias

import msgspec

from flowprov.records import LeftOut, Status, Task, Workflow

PREFIX = "dask:"

_Producer: TypeAlias = "str | LeftOut"
_Executions: TypeAlias = list[tuple[int, _Producer]]  # end, task id; by end


def resolve(rows: Sequence[Task | Workflow], left_out: Sequence[LeftOut] = ()) -> list[Task | Workflow]:
    """Put task ids in the place of Dask keys, where the task that produced the value is known."""
    waiting = [
        index
        for index, row in enumerate(rows)
        if isinstance(row, Task) and row.dependencies and any(d.startswith(PREFIX) for d in row.dependencies)
    ]
    resolved = list(rows)
    if not waiting:
        return resolved
    resolver = _Resolver((row for row in rows if isinstance(row, Task)), left_out)
    for index in waiting:
        task = rows[index]
        if isinstance(task, Task) and task.dependencies and task.started_at is not None:
            found = resolver.trace(task.dependencies, task.started_at, task.workflow_id)
            resolved[index] = msgspec.structs.replace(task, dependencies=found)
    return resolved


class _Resolver:
    """Traces keys to the tasks that were recorded."""

    def __init__(self, tasks: Iterable[Task], left_out: Iterable[LeftOut]) -> None:
        self._executions: dict[tuple[str, str | None], _Executions] = {}
        self._behind: dict[int, list[str]] = {}
        for task in tasks:
            key = (task.custom_metadata or {}).get("dask_key")
            if key is not None and task.status == Status.FINISHED.value and task.ended_at is not None:
                self._add(str(key), task.workflow_id, task.ended_at, str(task.task_id))
        for passed in left_out:
            self._add(passed.dask_key, passed.workflow_id, passed.at, passed)
        for executions in self._executions.values():
            executions.sort(key=_end)

    def _add(self, key: str, workflow_id: str | None, at: int, producer: _Producer) -> None:
        for scope in {workflow_id, None}:
            self._executions.setdefault((key, scope), []).append((at, producer))

    def trace(self, dependencies: Iterable[str], at: int, workflow_id: str | None) -> list[str]:
        """Give what stands behind dependencies at a time, each once and in order."""
        found: dict[str, None] = {}
        for dependency in dependencies:
            producer = self._producer(dependency, at, workflow_id)
            found.update(dict.fromkeys([producer] if isinstance(producer, str) else self._through(producer)))
        return list(found)

    def _through(self, passed: LeftOut) -> list[str]:
        """Give what stands behind a task that was left out; chains of them may be long."""
        behind, waiting = self._behind, [passed]
        while waiting:
            current = waiting[-1]
            if id(current) in behind:
                waiting.pop()
                continue
            producers = [self._producer(d, current.at, current.workflow_id) for d in current.dependencies]
            unknown = [p for p in producers if isinstance(p, LeftOut) and id(p) not in behind]
            # An execution that stands behind itself can only come from clocks that disagree.
            unknown = [p for p in unknown if not any(p is each for each in waiting)]
            if unknown:
                waiting.extend(unknown)
                continue
            found: dict[str, None] = {}
            for producer in producers:
                each = [producer] if isinstance(producer, str) else behind.get(id(producer), [])
                found.update(dict.fromkeys(each))
            behind[id(current)] = list(found)
        return behind[id(passed)]

    def _producer(self, dependency: str, at: int, workflow_id: str | None) -> _Producer:
        if not dependency.startswith(PREFIX):
            return dependency
        key = dependency.removeprefix(PREFIX)
        for scope in (workflow_id, None):
            known = self._executions.get((key, scope), [])
            place = bisect_right(known, at, key=_end)
            if place:
                return known[place - 1][1]
        return dependency


def _end(execution: tuple[int, _Producer]) -> int:
    return execution[0]


_Submission: TypeAlias = tuple[str | None, str, int | None]


def number_attempts(rows: Sequence[Task | Workflow]) -> list[Task | Workflow]:
    """Count the executions of each submission of a key by their start."""
    started: dict[_Submission, dict[str, int]] = {}
    for row in rows:
        submission = _submission(row)
        if submission is not None and isinstance(row, Task):
            started.setdefault(submission, {})[str(row.task_id)] = row.started_at or 0
    numbers: dict[str, int] = {}
    for attempts in started.values():
        numbers.update(
            (task, place) for place, task in enumerate(sorted(attempts, key=attempts.__getitem__), 1)
        )
    return [_numbered(row, numbers) for row in rows] if numbers else list(rows)


def _numbered(row: Task | Workflow, numbers: dict[str, int]) -> Task | Workflow:
    if not isinstance(row, Task) or str(row.task_id) not in numbers or _submission(row) is None:
        return row
    metadata = {**(row.custom_metadata or {}), "attempt": numbers[str(row.task_id)]}
    return msgspec.structs.replace(row, custom_metadata=metadata)


def _submission(row: Task | Workflow) -> _Submission | None:
    if not isinstance(row, Task) or row.subtype != "dask_task":
        return None
    key = (row.custom_metadata or {}).get("dask_key")
    return None if key is None else (row.workflow_id, str(key), row.submitted_at)
