"""Dask keys among the dependencies become the ids of the tasks that produced the values."""

from __future__ import annotations

from flowprov.read.dask_tasks import resolve_dependencies
from flowprov.records import LeftOut, Task
from tests.journal.support import NS, step


def produced(task_id: str, at: int, key: str = "load-1", workflow_id: str = "w", **fields: object) -> Task:
    metadata = {"dask_key": key}
    return step(task_id, at, workflow_id=workflow_id, custom_metadata=metadata, **fields)


def dependencies_at(at: int, *tasks: Task, names: tuple[str, ...] = ("dask:load-1",)) -> list[str] | None:
    dependent = step("dependent", at, workflow_id="w", dependencies=list(names))
    row = resolve_dependencies([*tasks, dependent])[-1]
    assert isinstance(row, Task)
    return row.dependencies


def test_a_key_stands_for_its_last_execution_that_finished_before_the_dependent_started() -> None:
    executions = [produced("first", 1), produced("second", 10), produced("third", 20)]
    assert dependencies_at(2, *executions) == ["first"]
    assert dependencies_at(15, *executions) == ["second"]
    assert dependencies_at(99, *executions) == ["third"]


def test_a_key_stays_if_no_execution_of_it_finished_before() -> None:
    assert dependencies_at(1, produced("later", 5)) == ["dask:load-1"]
    assert dependencies_at(9, produced("failed", 1, status="ERROR")) == ["dask:load-1"]
    assert dependencies_at(9, produced("other", 1, key="load-2")) == ["dask:load-1"]


def test_an_execution_of_the_same_workflow_is_preferred() -> None:
    other = produced("other", 8, workflow_id="v")
    assert dependencies_at(20, produced("same", 1), other) == ["same"]
    assert dependencies_at(20, other) == ["other"]


def test_task_ids_among_the_dependencies_stay_and_the_order_is_kept() -> None:
    names = ("task-7", "dask:b", "dask:load-1")
    assert dependencies_at(9, produced("x", 1), names=names) == ["task-7", "dask:b", "x"]


def left_out(key: str, at: int, *dependencies: str, workflow_id: str = "w") -> LeftOut:
    return LeftOut(workflow_id=workflow_id, dask_key=key, at=at * NS, dependencies=list(dependencies))


def dependencies_through(
    at: int, *omitted: LeftOut, tasks: tuple[Task, ...] = (), name: str = "dask:k"
) -> list[str] | None:
    dependent = step("dependent", at, workflow_id="w", dependencies=[name])
    row = resolve_dependencies([*tasks, dependent], omitted)[-1]
    assert isinstance(row, Task)
    return row.dependencies


def test_dependencies_are_resolved_along_chains_of_left_out_tasks() -> None:
    chain = [
        left_out("k0", 2, "dask:load-1"),
        *(left_out(f"k{n}", n + 2, f"dask:k{n - 1}") for n in range(1, 5000)),
    ]
    assert dependencies_through(9000, *chain, tasks=(produced("x", 1),), name="dask:k4999") == ["x"]


def test_a_task_that_several_left_out_tasks_lead_to_is_named_once() -> None:
    omitted = [
        left_out("a", 2, "dask:load-1"),
        left_out("b", 2, "dask:load-1"),
        left_out("k", 3, "dask:a", "dask:b"),
    ]
    assert dependencies_through(9, *omitted, tasks=(produced("x", 1),)) == ["x"]


def test_a_left_out_task_without_dependencies_is_no_dependency() -> None:
    assert dependencies_through(9, left_out("k", 2)) == []


def test_a_cycle_of_left_out_tasks_from_clocks_that_disagree_ends() -> None:
    assert dependencies_through(9, left_out("k", 5, "dask:j"), left_out("j", 5, "dask:k")) == []


def test_an_unknown_key_among_the_dependencies_of_a_left_out_task_stays() -> None:
    assert dependencies_through(9, left_out("k", 5, "dask:scattered")) == ["dask:scattered"]
