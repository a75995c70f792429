"""Complete the rows of Dask tasks: which tasks their inputs came from, and which attempt each one is.

Flows in: the rows of a campaign, with Dask keys (``dask:<key>``) among their dependencies, and the tasks that
were left out of the record. Flows out: the same rows, with task ids in place of the keys, and with the number
of the attempt in ``custom_metadata``.

A key comes back on every resubmission and after every lost result, so one key names many executions.

- A dependency stands for the last execution of its key that finished before the dependent task started. If
  that execution was left out, its own dependencies take its place.
- Attempts are the executions of one submission of a key, counted from 1 in the order of their starts.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeAlias

import msgspec

from flowprov.records import LeftOut, Status, Task, Workflow

_KEY_PREFIX = "dask:"
# Ids that stand for left-out tasks, altogether. Beyond these a dependency stays a key: each of many left-out
# tasks can stand for all that came before it.
_MAX_EXPANDED = 5_000_000

_Producer: TypeAlias = "str | LeftOut"  # a task id, or a task that was left out
_Executions: TypeAlias = list[tuple[int, _Producer]]  # the end and the producer, sorted by end
Submission: TypeAlias = tuple[str | None, str, int | None]  # workflow id, key, time of submission


def resolve_dependencies(
    rows: Sequence[Task | Workflow], left_out: Sequence[LeftOut] = ()
) -> list[Task | Workflow]:
    """Return rows with task ids in place of Dask keys; a key of which no producer is known stays."""
    indices = [
        index
        for index, row in enumerate(rows)
        if isinstance(row, Task)
        and row.dependencies
        and any(dependency.startswith(_KEY_PREFIX) for dependency in row.dependencies)
    ]
    resolved = list(rows)
    if not indices:
        return resolved
    resolver = _Resolver((row for row in rows if isinstance(row, Task)), left_out)
    for index in indices:
        task = rows[index]
        if isinstance(task, Task) and task.dependencies and task.started_at is not None:
            dependencies = resolver.resolve(task.dependencies, task.started_at, task.workflow_id)
            resolved[index] = msgspec.structs.replace(task, dependencies=dependencies)
    return resolved


def number_attempts(rows: Sequence[Task | Workflow]) -> list[Task | Workflow]:
    """Return rows with the number of the attempt in the ``custom_metadata`` of each Dask task."""
    started: dict[Submission, dict[str, int]] = {}
    for row in rows:
        submission = submission_of(row)
        if submission is not None and isinstance(row, Task):
            started.setdefault(submission, {})[str(row.task_id)] = row.started_at or 0
    numbers: dict[str, int] = {}
    for attempts in started.values():
        numbers.update(
            (task_id, number) for number, task_id in enumerate(sorted(attempts, key=attempts.__getitem__), 1)
        )
    return [_with_attempt(row, numbers) for row in rows] if numbers else list(rows)


class _Resolver:
    """Resolves Dask keys to the ids of the tasks that were recorded."""

    def __init__(self, tasks: Iterable[Task], left_out: Iterable[LeftOut]) -> None:
        self._executions: dict[tuple[str, str | None], _Executions] = {}
        self._resolved: dict[int, list[str]] = {}
        self._expanded = 0
        for task in tasks:
            key = (task.custom_metadata or {}).get("dask_key")
            if key is not None and task.status == Status.FINISHED.value and task.ended_at is not None:
                self._add(str(key), task.workflow_id, task.ended_at, str(task.task_id))
        for omitted in left_out:
            self._add(omitted.dask_key, omitted.workflow_id, omitted.at, omitted)
        for executions in self._executions.values():
            executions.sort(key=_end_time)

    def _add(self, key: str, workflow_id: str | None, at: int, producer: _Producer) -> None:
        for scope in {workflow_id, None}:
            self._executions.setdefault((key, scope), []).append((at, producer))

    def resolve(self, dependencies: Iterable[str], at: int, workflow_id: str | None) -> list[str]:
        """Return the task ids that dependencies stand for at a time, each once and in order."""
        producers = [self._find_producer(dependency, at, workflow_id) for dependency in dependencies]
        for producer in producers:
            if not isinstance(producer, str):
                self._resolve_left_out(producer)
        return self._join(producers)

    def _resolve_left_out(self, omitted: LeftOut) -> None:
        """Note the task ids that a left-out task stands for; a loop, as chains of them can be long."""
        stack = [self._visit(omitted)]
        open_ids = {id(omitted)}  # only clocks that disagree can make an execution its own predecessor
        while stack:
            current, producers, waiting = stack[-1]
            for producer in waiting:
                known = isinstance(producer, str) or id(producer) in self._resolved
                if not known and id(producer) not in open_ids:
                    open_ids.add(id(producer))
                    stack.append(self._visit(producer))  # type: ignore[arg-type]
                    break
            else:
                self._resolved[id(current)] = self._join(producers)
                open_ids.discard(id(current))
                stack.pop()

    def _visit(self, omitted: LeftOut) -> tuple[LeftOut, list[_Producer], Iterator[_Producer]]:
        """Return a left-out task with its producers, and with those that were not looked at yet."""
        producers = [
            self._find_producer(dependency, omitted.at, omitted.workflow_id)
            for dependency in omitted.dependencies
        ]
        return omitted, producers, iter(producers)

    def _join(self, producers: Sequence[_Producer]) -> list[str]:
        """Return the task ids that producers stand for, each once and in order."""
        if len(producers) == 1 and isinstance(producers[0], LeftOut):
            return self._resolved.get(id(producers[0]), [])  # a chain of them shares one list
        task_ids: dict[str, None] = {}
        for producer in producers:
            if isinstance(producer, str):
                task_ids[producer] = None
                continue
            sources = self._resolved.get(id(producer), [])
            self._expanded += len(sources)
            if self._expanded > _MAX_EXPANDED:
                sources = [f"{_KEY_PREFIX}{producer.dask_key}"]
            task_ids.update(dict.fromkeys(sources))
        return list(task_ids)

    def _find_producer(self, dependency: str, at: int, workflow_id: str | None) -> _Producer:
        """Return what produced a dependency before a time, of the same workflow if possible."""
        if not dependency.startswith(_KEY_PREFIX):
            return dependency
        key = dependency.removeprefix(_KEY_PREFIX)
        for scope in (workflow_id, None):
            executions = self._executions.get((key, scope), [])
            index = bisect_right(executions, at, key=_end_time)
            if index:
                return executions[index - 1][1]
        return dependency


def _end_time(execution: tuple[int, _Producer]) -> int:
    return execution[0]


def _with_attempt(row: Task | Workflow, numbers: dict[str, int]) -> Task | Workflow:
    if not isinstance(row, Task) or str(row.task_id) not in numbers or submission_of(row) is None:
        return row
    metadata = {**(row.custom_metadata or {}), "attempt": numbers[str(row.task_id)]}
    return msgspec.structs.replace(row, custom_metadata=metadata)


def submission_of(row: Task | Workflow) -> Submission | None:
    """Return which submission of a key a Dask task belongs to; None for other rows."""
    if not isinstance(row, Task) or row.subtype != "dask_task":
        return None
    key = (row.custom_metadata or {}).get("dask_key")
    return None if key is None else (row.workflow_id, str(key), row.submitted_at)
