"""Rows have the samples of their own journal that enclose them."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from pathlib import Path
from typing import Any
from unittest.mock import patch

import msgspec
import pytest

from flowprov import records
from flowprov.journal.merge_patch import apply
from flowprov.read import Buffer, read_buffer, telemetry_join
from flowprov.records import Correction, Error, OpenTask, Record, Sample, Task
from tests.journal.support import header, write
from tests.read.samples import change, every_second, ns, rows_of, sample, sampled_at, task, workflow
from tests.support import only


def test_a_task_has_the_samples_around_it_with_their_distances_in_time() -> None:
    row = only(rows_of([sample(10, mem=1), sample(11, mem=2), task(10.25, 11.5), sample(12, mem=3)]))
    assert row.telemetry_at_start == {"mem": 1, "distance_s": -0.25, "sampled_at": ns(10)}
    assert row.telemetry_at_end == {"mem": 3, "distance_s": 0.5, "sampled_at": ns(12)}


def test_a_task_that_is_written_before_its_samples_also_has_them() -> None:
    assert sampled_at(only(rows_of([task(10.5, 12.5), *every_second(5)]))) == (10, 13)


def test_a_short_task_has_one_sample_with_its_distances_from_the_start_and_the_end() -> None:
    row = only(rows_of([*every_second(3), task(10.25, 10.375)]))
    assert sampled_at(row) == (10, 10)
    assert (row.telemetry_at_start["distance_s"], row.telemetry_at_end["distance_s"]) == (-0.25, -0.375)


def test_the_distance_is_positive_before_the_first_sample_and_negative_after_the_last() -> None:
    row = only(rows_of([*every_second(3), task(5, 20)]))
    assert sampled_at(row) == (10, 12)
    assert (row.telemetry_at_start["distance_s"], row.telemetry_at_end["distance_s"]) == (5, -8)


def test_without_samples_nothing_is_joined_and_no_work_is_done() -> None:
    with patch.object(telemetry_join, "Series", side_effect=AssertionError):
        rows = rows_of([*workflow(1, 9), task(1, 2)])
    assert [sampled_at(row) for row in rows] == [(None, None)] * 2


def test_a_task_without_telemetry_has_no_readings() -> None:
    without, with_ = rows_of([*every_second(3), task(10, 12, telemetry=False), task(10, 12, 1)])
    assert sampled_at(without) == (None, None)
    assert sampled_at(with_) == (10, 12)


@pytest.mark.parametrize("sides", [("start", "end"), ("start",), ("end",)])
def test_exact_readings_are_kept_and_no_samples_are_added(sides: tuple[str, ...]) -> None:
    exact: dict[str, Any] = {f"telemetry_at_{side}": {"cpu": {"user_s": 5}} for side in sides}
    row = only(rows_of([*every_second(3), task(10, 12, **exact)]))
    assert row.telemetry_at_start == exact.get("telemetry_at_start")
    assert row.telemetry_at_end == exact.get("telemetry_at_end")


def test_running_and_interrupted_rows_have_only_the_reading_at_their_start() -> None:
    journal: list[Record] = [
        *every_second(3),
        task(10.5, None),
        OpenTask(task_id=1, started_at=ns(11.5), status="RUNNING"),
        *workflow(10.5, None),
    ]
    for alive, status in ((True, "RUNNING"), (False, "INTERRUPTED")):
        rows = rows_of(journal, alive=alive)
        assert {row.status for row in rows} == {status}
        assert [sampled_at(row) for row in rows] == [(10, None), (10, None), (11, None)]


def test_an_open_task_without_telemetry_has_no_readings() -> None:
    journal = [*every_second(3), OpenTask(task_id=1, started_at=ns(11.5), status="RUNNING", telemetry=False)]
    assert sampled_at(only(rows_of(journal))) == (None, None)


def test_the_start_of_a_dask_task_has_one_reading_and_its_end_and_merged_row_have_both() -> None:
    journal = [*every_second(5), task(10.5, None, "dask-1"), task(10.5, 12.5, "dask-1")]
    assert [sampled_at(row) for row in rows_of(journal)] == [(10, None), (10, 13)]
    assert sampled_at(only(rows_of(journal, merge=True))) == (10, 13)


def test_a_task_that_another_process_ended_has_the_reading_at_its_start_from_its_own_process() -> None:
    first = [sample(10, mem="mine"), sample(11, mem="mine"), task(10, None, "dask-1")]
    other = [sample(10, mem="other"), sample(20, mem="other"), task(10, 20, "dask-1", status="CANCELLED")]
    for journals in ((first, other), (other, first)):
        row = only(rows_of(*journals, merge=True))
        assert (row.telemetry_at_start["mem"], row.telemetry_at_end["mem"]) == ("mine", "other")


def test_a_task_that_ended_in_a_process_without_samples_keeps_the_reading_at_its_start() -> None:
    row = only(rows_of([*every_second(3), task(10, None, "dask-1")], [task(10, 20, "dask-1")], merge=True))
    assert sampled_at(row) == (10, None)


def test_a_correction_does_not_change_the_readings() -> None:
    error = Error(type="E", message="late")
    row = only(rows_of([*every_second(5), task(10, 12), Correction(task_id=0, status="ERROR", error=error)]))
    assert (row.status, row.error, sampled_at(row)) == ("ERROR", error, (10, 12))


def test_rows_never_have_samples_of_another_journal() -> None:
    rows = rows_of(
        [sample(10, mem="a"), sample(15, mem="a"), sample(20, mem="a"), task(11, 19)],
        [sample(12, mem="b"), sample(18, mem="b"), task(12, 18)],
        [task(13, 17)],
    )
    values = [row.telemetry_at_end and row.telemetry_at_end["mem"] for row in rows]
    assert values == ["a", "b", None]
    assert [sampled_at(row) for row in rows] == [(10, 20), (12, 18), (None, None)]


def test_a_workflow_has_the_samples_around_its_opening_and_its_ending() -> None:
    opening, ending = workflow(10.5, 12.5)
    assert sampled_at(only(rows_of([opening, *every_second(5), ending]))) == (10, 13)


def test_a_workflow_of_many_ranks_has_the_readings_of_the_lowest_rank() -> None:
    rows = rows_of(
        [*workflow(10, 12), sample(10, mem="low"), sample(11, mem="low"), sample(12, mem="low")],
        [*(msgspec.structs.replace(message, rank=1) for message in workflow(9, 13)), *every_second(5)],
    )
    row = only(rows)
    assert (row.telemetry_at_start["mem"], row.telemetry_at_end["mem"]) == ("low", "low")
    assert (row.started_at, row.ended_at) == (ns(9), ns(13))


def test_a_workflow_that_one_rank_never_ended_has_no_reading_at_its_end() -> None:
    rows = rows_of([*every_second(5), *workflow(10, 12)], [*every_second(5), *workflow(10, None)])
    assert (only(rows).ended_at, sampled_at(only(rows))) == (None, (10, None))


def test_a_damaged_sample_costs_only_its_own_changes(tmp_path: Path) -> None:
    path = write(tmp_path, header())
    whole, patched = sample(10, mem={"used_bytes": 1, "total_bytes": 9}), change(11, mem={"used_bytes": 2})
    torn = records.encode(change(10.5, mem={"used_bytes": 5, "free_bytes": 3}))[:-9] + b"\n"
    lines = [
        records.encode(whole),
        torn,
        b'{"type":"sample","at":"x"}\n',
        records.encode(patched),
        records.encode(task(10, 11)),
    ]
    with path.open("ab") as file:
        file.writelines(lines)
    row = only(read_buffer(path, return_df=False))
    assert row["telemetry_at_end"]["mem"] == {"used_bytes": 2, "total_bytes": 9}
    assert len(Buffer(path).damages()) == 2
    path.write_bytes(path.read_bytes().replace(lines[0], b"{" + lines[0][10:]))  # damages the whole sample
    row = only(read_buffer(path, return_df=False))
    assert row["telemetry_at_start"]["mem"] == {"used_bytes": 2}


def test_numbers_that_json_cannot_hold_are_restored_from_changes(tmp_path: Path) -> None:
    lost = change(11, cpu={"load": {"$float": "Infinity"}, "$$odd": 1})
    row = only(read_buffer(write(tmp_path, header(), sample(10), lost, task(11, 12)), return_df=False))
    assert row["telemetry_at_start"]["cpu"] == {"user_s": 10, "load": float("inf"), "$odd": 1}


def test_times_that_no_clock_can_give_do_no_harm() -> None:
    odd = [Sample(at=-5, values={"mem": 1}), Sample(at=10**400, changes={"mem": 2}), change(11, cpu=None)]
    endless = Task(task_id=1, started_at=ns(10), ended_at=10**400)
    rows = rows_of([*odd, endless, task(11, 11.5)])
    assert [sampled_at(row) for row in rows] == [(None, None), (11, 11)]
    assert rows[1].telemetry_at_end == {"mem": 2, "distance_s": -0.5, "sampled_at": ns(11)}
    assert [values["mem"] for _, values in telemetry_join.full_readings(odd)] == [2]


def test_rows_share_the_reading_of_a_sample() -> None:
    rows = rows_of([sample(10, cpu={"user_s": 1}), *(task(10, 10.5, number) for number in range(9))])
    readings = [reading for row in rows for reading in (row.telemetry_at_start, row.telemetry_at_end)]
    assert len(readings) == 18
    assert len({id(reading and reading["cpu"]) for reading in readings}) == 1


@pytest.mark.parametrize("count", [10, 1_000])
def test_each_sample_is_patched_once_and_each_task_searches_once(count: int) -> None:
    journal: list[Record] = [sample(0), *(change(at, mem=at) for at in range(1, count))]
    journal += [task(at, at + 3, number) for number, at in enumerate(range(count))]
    with (
        patch.object(telemetry_join, "apply", side_effect=apply) as patches,
        patch.object(telemetry_join, "bisect_left", side_effect=bisect_left) as left,
        patch.object(telemetry_join, "bisect_right", side_effect=bisect_right) as right,
    ):
        assert len(rows_of(journal)) == count
    assert patches.call_count == count - 1
    assert left.call_count <= count
    assert right.call_count == count
