"""What the tests of Dask read from a buffer, and how they wait."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import flowprov
from flowprov import records
from tests.support import clean_environment, tasks

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


@contextlib.contextmanager
def dask_program(
    *arguments: str, folder: Path, env: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Run ``dask scheduler`` or ``dask worker`` until the end of the block; its output goes to the folder."""
    with (folder / f"{arguments[0]}.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "dask", *arguments],
            cwd=folder,
            env=clean_environment(**(env or {})),
            stdout=log,
            stderr=log,
        )
    try:
        yield process
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(10)
        process.kill()
        process.wait()


def metadata(task: records.Task, name: str) -> Any:
    """Return one of the custom metadata of a record."""
    assert task.custom_metadata is not None
    return task.custom_metadata[name]


def rows(buffer: Path, activity: str) -> list[records.Task]:
    """Read the Dask tasks of one activity, merged: one row each."""
    merged = flowprov.Buffer(buffer).records(merge=True)
    return [row for row in merged if isinstance(row, records.Task) and row.activity_id == activity]
