"""Dask keys among the dependencies become the ids of the executions that produced the values."""

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


def left_out(key: str, at: int, *dependencies: str, workflow_id: str = "w") -> LeftOut:
    return LeftOut(workflow_id=workflow_id, dask_key=key, at=at * NS, dependencies=list(dependencies))


def through(
    at: int, *passed: LeftOut, tasks: tuple[Task, ...] = (), name: str = "dask:k"
) -> list[str] | None:
    dependent = step("dependent", at, workflow_id="w", dependencies=[name])
    row = resolve_dependencies([*tasks, dependent], passed)[-1]
    assert isinstance(row, Task)
    return row.dependencies


def test_dependencies_lead_through_chains_of_what_was_left_out() -> None:
    chain = [
        left_out("k0", 2, "dask:load-1"),
        *(left_out(f"k{n}", n + 2, f"dask:k{n - 1}") for n in range(1, 5000)),
    ]
    assert through(9000, *chain, tasks=(produced("x", 1),), name="dask:k4999") == ["x"]


def test_what_several_ways_lead_to_is_named_once() -> None:
    ways = [
        left_out("a", 2, "dask:load-1"),
        left_out("b", 2, "dask:load-1"),
        left_out("k", 3, "dask:a", "dask:b"),
    ]
    assert through(9, *ways, tasks=(produced("x", 1),)) == ["x"]


def test_what_was_left_out_and_depends_on_nothing_is_no_dependency() -> None:
    assert through(9, left_out("k", 2)) == []


def test_clocks_that_disagree_cannot_make_a_circle_of_what_was_left_out() -> None:
    assert through(9, left_out("k", 5, "dask:j"), left_out("j", 5, "dask:k")) == []


def test_an_unknown_key_behind_what_was_left_out_stays() -> None:
    assert through(9, left_out("k", 5, "dask:scattered")) == ["dask:scattered"]
