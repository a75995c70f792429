"""Dask keys among the dependencies become the ids of the executions that produced the values."""

from __future__ import annotations

from flowprov.read.dependencies import resolve
from flowprov.records import Task
from tests.journal.support import step


def produced(task_id: str, at: int, key: str = "load-1", workflow_id: str = "w", **fields: object) -> Task:
    metadata = {"dask_key": key}
    return step(task_id, at, workflow_id=workflow_id, custom_metadata=metadata, **fields)


def dependencies_at(at: int, *tasks: Task, names: tuple[str, ...] = ("dask:load-1",)) -> list[str] | None:
    dependent = step("dependent", at, workflow_id="w", dependencies=list(names))
    row = resolve([*tasks, dependent])[-1]
    assert isinstance(row, Task)
    return row.dependencies


def test_of_many_executions_of_a_key_the_last_that_finished_before_counts() -> None:
    executions = [produced("first", 1), produced("second", 10), produced("third", 20)]
    assert dependencies_at(2, *executions) == ["first"]
    assert dependencies_at(15, *executions) == ["second"]
    assert dependencies_at(99, *executions) == ["third"]


def test_a_key_stays_where_nothing_finished_before() -> None:
    assert dependencies_at(1, produced("later", 5)) == ["dask:load-1"]
    assert dependencies_at(9, produced("failed", 1, status="ERROR")) == ["dask:load-1"]
    assert dependencies_at(9, produced("other", 1, key="load-2")) == ["dask:load-1"]


def test_an_execution_of_the_same_workflow_is_preferred() -> None:
    elsewhere = produced("elsewhere", 8, workflow_id="v")
    assert dependencies_at(20, produced("here", 1), elsewhere) == ["here"]
    assert dependencies_at(20, elsewhere) == ["elsewhere"]


def test_task_ids_stay_and_order_is_kept() -> None:
    names = ("task-7", "dask:b", "dask:load-1")
    assert dependencies_at(9, produced("x", 1), names=names) == ["task-7", "dask:b", "x"]
