"""What the tests of Dask read from a buffer, and how they wait."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flowprov
from flowprov import records
from tests.support import tasks

PATIENCE = 30.0  # seconds


def dask_tasks(buffer: Path, activity: str | None = None) -> list[records.Task]:
    """Read the records of Dask tasks, of one activity or all; RUNNING records too."""
    return [
        task for task in tasks(buffer) if task.subtype == "dask_task" and activity in (None, task.activity_id)
    ]


def ended(buffer: Path, activity: str | None = None) -> list[records.Task]:
    """Read the records of Dask tasks that ended."""
    return [task for task in dask_tasks(buffer, activity) if task.status != "RUNNING"]


def statuses(of_tasks: list[records.Task]) -> list[str]:
    """Return the statuses of records, sorted."""
    return sorted(str(task.status) for task in of_tasks)


def wait_until(condition: Callable[[], Any]) -> Any:
    """Wait for something that happens elsewhere to be true, and give it."""
    deadline = time.monotonic() + PATIENCE
    while not (found := condition()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)
    return found


def metadata(task: records.Task, name: str) -> Any:
    """Return one of the custom metadata of a record."""
    assert task.custom_metadata is not None
    return task.custom_metadata[name]


def rows(buffer: Path, activity: str) -> list[records.Task]:
    """Read the Dask tasks of one activity, merged: one row each."""
    merged = flowprov.Buffer(buffer).records(merge=True)
    return [row for row in merged if isinstance(row, records.Task) and row.activity_id == activity]
