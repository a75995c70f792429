"""Which attempt at a Dask task an execution was.

Flows in: rows. Flows out: the same rows, in which ``custom_metadata`` of Dask tasks has ``attempt``, counted
from 1. No worker knows it: after a retry, or when a worker died, attempts at one submission run on several.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import msgspec

from flowprov.records import Task, Workflow

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
