"""Which task produced the value that a Dask task was given.

Flows in: tasks whose dependencies are Dask keys (``dask:<key>``). Flows out: the same tasks with task ids in
their place. A key comes back on every resubmission and after every lost result, so it names many executions;
the one that counts is the last that finished before the dependent task started.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from typing import TypeAlias

import msgspec

from flowprov.records import Status, Task, Workflow

PREFIX = "dask:"

_Executions: TypeAlias = list[tuple[int, str]]  # end, task id; by end


def resolve(rows: Sequence[Task | Workflow]) -> list[Task | Workflow]:
    """Put task ids in the place of Dask keys, where the task that produced the value is known."""
    waiting = [
        index
        for index, row in enumerate(rows)
        if isinstance(row, Task) and row.dependencies and any(d.startswith(PREFIX) for d in row.dependencies)
    ]
    resolved = list(rows)
    if not waiting:
        return resolved
    executions = _executions(row for row in rows if isinstance(row, Task))
    for index in waiting:
        task = rows[index]
        if isinstance(task, Task) and task.dependencies:
            found = [_producer(name, task, executions) for name in task.dependencies]
            resolved[index] = msgspec.structs.replace(task, dependencies=found)
    return resolved


def _executions(tasks: Iterable[Task]) -> dict[tuple[str, str | None], _Executions]:
    """List the finished executions of each key, in each workflow and (None) in all of them."""
    made: dict[tuple[str, str | None], _Executions] = {}
    for task in tasks:
        key = (task.custom_metadata or {}).get("dask_key")
        if key is None or task.status != Status.FINISHED.value or task.ended_at is None:
            continue
        for scope in {task.workflow_id, None}:
            made.setdefault((str(key), scope), []).append((task.ended_at, str(task.task_id)))
    for executions in made.values():
        executions.sort()
    return made


def _producer(dependency: str, task: Task, executions: dict[tuple[str, str | None], _Executions]) -> str:
    if not dependency.startswith(PREFIX) or task.started_at is None:
        return dependency
    key = dependency.removeprefix(PREFIX)
    for scope in (task.workflow_id, None):
        known = executions.get((key, scope), [])
        place = bisect_right(known, task.started_at, key=lambda execution: execution[0])
        if place:
            return known[place - 1][1]
    return dependency
