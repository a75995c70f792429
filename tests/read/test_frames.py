"""Tables always have all columns, in the same order and with the same types."""

from __future__ import annotations

import math
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pandas as pd
import pytest

import flowprov
from flowprov.errors import MissingExtraError
from flowprov.read import COLUMNS, Buffer, read_buffer
from flowprov.read.frames import to_dicts, to_frame
from flowprov.records import Error, Sample, Task, Workflow
from tests.journal.support import NS, header, step, write

ROWS: list[Task | Workflow] = [
    Workflow(workflow_id="w", name="Main", started_at=NS + 1, ended_at=3 * NS, status="FINISHED", rank=0),
    step("t", 2, used={"x": [1, 2]}, tags=["a", "b"], error=Error(type="E", message="m"), pid=7),
    Task(task_id="u", tags=["c", "d"]),
]


def test_the_columns_are_the_union_of_the_fields_of_tasks_and_workflows() -> None:
    fields = {*Task.__struct_fields__, *Workflow.__struct_fields__}
    assert set(COLUMNS) == {"type", "duration", *fields} - {"telemetry"}  # a flag for readers, not a value
    assert len(COLUMNS) == len(set(COLUMNS))


@pytest.mark.parametrize("rows", [[], ROWS[:1], ROWS[1:], ROWS], ids=["empty", "workflows", "tasks", "both"])
def test_every_frame_has_the_same_columns_and_types(rows: list[Task | Workflow]) -> None:
    frame = to_frame(rows)
    assert tuple(frame.columns) == COLUMNS
    assert len(frame) == len(rows)
    expected = {
        **dict.fromkeys(("submitted_at", "started_at", "ended_at"), "datetime64[ns, UTC]"),
        **dict.fromkeys(("type", "subtype", "status"), "category"),
        **dict.fromkeys(("attempt", "pid", "rank"), "Int64"),
        "duration": "float64",
    }
    for name in COLUMNS:
        assert str(frame[name].dtype) == expected.get(name, "object"), name


def test_numbers_that_no_process_has_are_missing() -> None:
    frame = to_frame([step("t", 1, pid=2**70), step("u", 2, pid=-(2**70)), step("v", 3, pid=7)])
    assert frame["pid"].dropna().tolist() == [7]


def test_cells_hold_the_values_and_missing_ones_are_none_nat_and_nan() -> None:
    frame = to_frame(ROWS)
    assert frame["type"].tolist() == ["workflow", "task", "task"]
    assert frame["task_id"].tolist() == [None, "t", "u"]
    assert frame["name"].tolist() == ["Main", None, None]
    assert frame["used"].tolist() == [None, {"x": [1, 2]}, None]
    assert frame["tags"].tolist() == [None, ["a", "b"], ["c", "d"]]
    assert frame["error"].tolist() == [None, {"type": "E", "message": "m", "traceback": None}, None]
    assert frame["rank"].tolist() == [0, pd.NA, pd.NA]
    assert frame["status"].tolist()[0] == "FINISHED"
    assert frame["status"].isna().tolist() == [False, False, True]
    assert frame["started_at"].iloc[0] == pd.Timestamp(NS + 1, unit="ns", tz="UTC")
    assert frame["started_at"].iloc[2] is pd.NaT
    assert frame["duration"].tolist()[:2] == [1.999999999, 1.0]
    assert math.isnan(frame["duration"].iloc[2])


def test_dicts_have_the_same_keys_and_datetimes_in_utc() -> None:
    rows = to_dicts(ROWS)
    assert all(tuple(row) == COLUMNS for row in rows)
    assert rows[0]["started_at"] == datetime(1970, 1, 1, 0, 0, 1, tzinfo=timezone.utc)
    assert rows[0]["started_at"].utcoffset() == timedelta(0)
    assert [row["duration"] for row in rows] == [1.999999999, 1.0, None]
    assert rows[1]["error"] == {"type": "E", "message": "m", "traceback": None}
    assert rows[2]["started_at"] is None


def test_a_time_that_no_clock_can_give_is_missing() -> None:
    rows: list[Task | Workflow] = [Task(task_id="t", started_at=10**30, ended_at=-5)]
    assert to_frame(rows)["started_at"].isna().all()
    assert to_dicts(rows)[0]["started_at"] is None


def test_without_pandas_a_frame_raises_an_error_with_the_extra_and_dicts_are_returned(
    buffer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(MissingExtraError, match=r"flowprov\[pandas\]"):
        read_buffer()
    assert read_buffer(return_df=False) == []


def test_an_empty_buffer_gives_an_empty_frame_with_all_columns(buffer: Path) -> None:
    assert tuple(read_buffer().columns) == COLUMNS
    assert read_buffer().empty


def test_one_workflow_can_be_read(buffer: Path) -> None:
    @flowprov.task
    def work(x: int) -> int:
        return x

    with flowprov.workflow("outer"):
        work(1)
        with flowprov.workflow("inner") as inner:
            work(2)
    frame = read_buffer(workflow_id=inner.workflow_id)
    assert frame["type"].tolist() == ["workflow", "task"]
    assert frame["used"].iloc[1] == {"x": 2}
    assert len(read_buffer()) == 4


def test_numbers_that_json_cannot_hold_are_read_as_they_were(buffer: Path) -> None:
    @flowprov.task
    def work(**values: object) -> None:
        pass

    with flowprov.workflow("W"):
        work(loss=math.nan, bound=-math.inf, big=2**70, nested=[{"$odd": math.inf}])
    used = read_buffer(return_df=False)[1]["used"]
    assert math.isnan(used.pop("loss"))
    assert used == {"bound": -math.inf, "big": 2**70, "nested": [{"$odd": math.inf}]}


def test_telemetry_is_a_frame_of_samples(tmp_path: Path) -> None:
    samples = (
        Sample(at=2 * NS, values={"cpu": {"percent": 5.0}, "pid": "own"}),
        Sample(at=NS, values={"mem": 3}),
    )
    frame = Buffer(write(tmp_path, header(), *samples)).telemetry()
    assert list(frame.columns) == ["at", "hostname", "pid", "cpu.percent", "mem"]
    assert frame["at"].is_monotonic_increasing
    assert frame["pid"].tolist() == [99, 99]
    assert frame["mem"].iloc[0] == 3


def test_telemetry_without_samples_is_empty_with_its_columns(buffer: Path) -> None:
    frame = Buffer().telemetry()
    assert list(frame.columns) == ["at", "hostname", "pid"]
    assert frame.empty
