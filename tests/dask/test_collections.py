"""Bags, arrays, dataframes: tasks with functions of the user are recorded, internal tasks are not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from dask.delayed import delayed

import flowprov
from flowprov import Buffer, records
from tests.dask import steps
from tests.dask.support import dask_tasks, ended, statuses
from tests.support import lines, of_type, only

db = pytest.importorskip("dask.bag")
da = pytest.importorskip("dask.array")
pd = pytest.importorskip("pandas")
dd = pytest.importorskip("dask.dataframe")


def activities(buffer: Path) -> dict[str, int]:
    """Count the ended tasks of each activity."""
    counts: dict[str, int] = {}
    for task in ended(buffer):
        counts[str(task.activity_id)] = counts.get(str(task.activity_id), 0) + 1
    return counts


def frame() -> Any:
    """Create a dataframe of two partitions."""
    table = pd.DataFrame({"x": range(6), "y": list("ababab")})
    return dd.from_pandas(table, npartitions=2)


def test_a_bag_records_the_functions_that_are_mapped_over_it_and_nothing_else(
    client: Any, buffer: Path
) -> None:
    with flowprov.workflow(dask_client=client):
        bag = db.from_sequence(range(4), npartitions=2)
        assert bag.map(steps.double).compute() == [0, 2, 4, 6]
        assert bag.map(len_of).sum().compute() == 4
    assert activities(buffer) == {"double": 2, "len_of": 2}
    assert statuses(dask_tasks(buffer)) == ["FINISHED"] * 4 + ["RUNNING"] * 4


def test_a_fused_task_is_named_after_all_its_functions(client: Any, buffer: Path) -> None:
    with flowprov.workflow(dask_client=client):
        bag = db.from_sequence(range(4), npartitions=2)
        assert bag.map(steps.double).filter(steps.is_small).count().compute() == 2
    assert activities(buffer) == {"double-is_small": 2}


def test_functions_of_python_that_are_mapped_over_a_bag_are_recorded(client: Any, buffer: Path) -> None:
    with flowprov.workflow(dask_client=client):
        assert db.from_sequence(["a", "bc"], npartitions=1).map(str.upper).compute() == ["A", "BC"]
    assert activities(buffer) == {"upper": 1}


def test_an_array_records_the_functions_that_are_mapped_over_its_blocks(client: Any, buffer: Path) -> None:
    with flowprov.workflow(dask_client=client):
        array = da.ones((4, 4), chunks=2)
        assert (array + 1).T.rechunk((4, 2)).sum().compute() == 32
        assert array.map_blocks(steps.double).sum().compute() == 32
    assert activities(buffer) == {"double": 4}


def test_a_dataframe_records_the_functions_that_are_applied_to_its_partitions(
    client: Any, buffer: Path
) -> None:
    with flowprov.workflow(dask_client=client):
        assert frame().map_partitions(steps.with_double).z.sum().compute() == 30
        assert frame().repartition(npartitions=1).x.sum().compute() == 15
        frame().apply(steps.x_of, axis=1, meta=("x", "int64")).compute()
    assert activities(buffer) == {"with_double": 2, "x_of": 2}


def test_delayed_calls_are_recorded_and_their_containers_are_not(client: Any, buffer: Path) -> None:
    with flowprov.workflow(dask_client=client):
        first = delayed(steps.add)(1)
        assert delayed(sum)([first, delayed([2, 3])[0]]).compute() == 5
        assert delayed("text").upper().compute() == "TEXT"
    assert activities(buffer) == {"add": 1, "sum": 1, "upper": 1}


def test_dependencies_pass_through_internal_tasks(client: Any, buffer: Path) -> None:
    with flowprov.workflow(dask_client=client):
        doubled = frame().map_partitions(steps.with_double).repartition(npartitions=1)
        assert len(doubled.map_partitions(steps.with_double).compute()) == 6
        pieces = delayed(steps.pair)(1)
        assert delayed(steps.add)(pieces[0], pieces[1]).compute() == 3
    rows = [row for row in Buffer(buffer).records(merge=True) if isinstance(row, records.Task)]
    first = [row.task_id for row in rows if row.activity_id == "with_double" and not row.dependencies]
    last = only([row for row in rows if row.activity_id == "with_double" and row.dependencies])
    assert sorted(last.dependencies) == sorted(first)
    pair = only([row for row in rows if row.activity_id == "pair"])
    assert only([row for row in rows if row.activity_id == "add"]).dependencies == [pair.task_id]


def test_a_task_that_uses_the_sum_of_a_bag_depends_on_the_tasks_of_the_bag(client: Any, buffer: Path) -> None:
    with flowprov.workflow(dask_client=client):
        bag = db.from_sequence(range(4), npartitions=2).map(steps.double)
        assert delayed(steps.add)(bag.sum().to_delayed(), 1).compute() == 13
    rows = [row for row in Buffer(buffer).records(merge=True) if isinstance(row, records.Task)]
    parts = sorted(str(row.task_id) for row in rows if row.activity_id == "double")
    assert sorted(only([row for row in rows if row.activity_id == "add"]).dependencies) == parts


def test_internal_tasks_are_recorded_where_the_settings_ask_for_it(threads: Any, buffer: Path) -> None:
    flowprov.configure(journal={"path": str(buffer)}, dask={"internal_tasks": True})
    with flowprov.workflow(dask_client=threads):
        pieces = delayed(steps.pair)(1)
        assert delayed(steps.add)(pieces[0], pieces[1]).compute() == 3
    assert activities(buffer) == {"pair": 1, "getitem": 2, "add": 1}
    assert not of_type(lines(buffer), records.LeftOut)


def test_an_internal_task_that_fails_is_recorded_with_its_error(client: Any, buffer: Path) -> None:
    with flowprov.workflow(dask_client=client), pytest.raises(IndexError):
        delayed(steps.pair)(1)[7].compute()
    failed = only(ended(buffer, "getitem"))
    assert (failed.status, failed.error.type) == ("ERROR", "IndexError")
    assert failed.started_at <= failed.ended_at
    merged = [row for row in Buffer(buffer).records(merge=True) if isinstance(row, records.Task)]
    assert [row.activity_id for row in merged] == ["pair", "getitem"]
    assert merged[1].dependencies == [merged[0].task_id]


def test_internal_tasks_leave_left_out_lines_and_no_rows(client: Any, buffer: Path) -> None:
    with flowprov.workflow(dask_client=client):
        assert frame().x.sum().compute() == 15
    assert ended(buffer) == []
    assert of_type(lines(buffer), records.LeftOut)
    assert not [report.damages for report in Buffer(buffer).journals() if report.damages]


def len_of(_: Any) -> int:
    """Return one."""
    return 1
