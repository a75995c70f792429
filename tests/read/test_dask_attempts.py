"""The attempts of one submission of a Dask task are numbered by their start."""

from __future__ import annotations

from typing import Any

from flowprov.read.dask_tasks import number_attempts
from flowprov.records import Task, Workflow
from tests.journal.support import step


def execution(task_id: str, at: int, submitted_at: int | None = 0, **fields: Any) -> Task:
    metadata = {"dask_key": "k"}
    return step(
        task_id,
        at,
        workflow_id="w",
        subtype="dask_task",
        submitted_at=submitted_at,
        custom_metadata=metadata,
        **fields,
    )


def numbers(*tasks: Task | Workflow) -> list[Any]:
    return [(row.custom_metadata or {}).get("attempt") for row in number_attempts(tasks)]


def test_attempts_are_numbered_by_their_start_and_both_messages_of_one_have_its_number() -> None:
    started = execution("b", 7, status="RUNNING")
    assert numbers(execution("b", 7), execution("a", 3), started) == [2, 1, 2]


def test_the_attempts_of_another_submission_of_the_key_are_numbered_from_one() -> None:
    assert numbers(execution("a", 3, 1), execution("b", 7, 2)) == [1, 1]


def test_other_rows_have_no_number() -> None:
    assert numbers(step("x", 1), Workflow(workflow_id="w"), execution("a", 3)) == [None, None, 1]
