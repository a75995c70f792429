"""A DataFrame that is made column by column is the one that follows from the rows."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flowprov.errors import UnknownIdError
from flowprov.journal.summary import JournalSummary
from flowprov.read import Buffer, column_frame
from flowprov.read.frames import to_frame
from flowprov.read.task_lines import NotPlainError, TaskLine
from flowprov.records import Correction, Footer, OpenTask, Record, Sample, Task, Workflow
from tests.journal.support import NS, header, step, write
from tests.read.buffers import Journals, campaigns, first_numbers, hostile_values, write_campaign

_SETTINGS = settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))


def said(frame: pd.DataFrame) -> tuple[Any, ...]:
    """Return all that a frame holds, so that NaN inside of a cell equals NaN."""
    categories = {name: list(frame[name].cat.categories) for name in ("type", "subtype", "status")}
    return (
        list(frame.columns),
        frame.dtypes.map(str).tolist(),
        categories,
        repr(frame.to_dict("list")),
        frame.index,
    )


def check(folder: Path, **chosen: Any) -> None:
    expected = to_frame(list(Buffer(folder).records(**chosen)))
    found = Buffer(folder).frame(**chosen)
    for one, other in zip(said(found), said(expected), strict=True):
        assert str(one) == str(other)


def check_campaign(journals: Journals, firsts: list[int] | None = None) -> None:
    folder = Path(tempfile.mkdtemp())
    try:
        write_campaign(folder, journals, firsts=firsts)
        for merge in (False, True):
            check(folder, merge=merge)
    finally:
        shutil.rmtree(folder)


@_SETTINGS
@given(campaigns, first_numbers)
def test_frames_are_the_same(journals: Journals, firsts: list[int] | None) -> None:
    check_campaign(journals, firsts)


@pytest.mark.soak
@settings(_SETTINGS, max_examples=1_000)
@given(campaigns, first_numbers)
def test_frames_are_the_same_in_many_buffers(journals: Journals, firsts: list[int] | None) -> None:
    check_campaign(journals, firsts)


@_SETTINGS
@given(st.lists(st.tuples(hostile_values, hostile_values), max_size=6))
def test_any_values_are_the_same(values: list[tuple[bytes, bytes]]) -> None:
    folder = Path(tempfile.mkdtemp())
    try:
        path = write(folder, header(), step(0))
        with path.open("ab") as file:
            for number, (used, generated) in enumerate(values, 1):
                line = b'{"type":"task","task_id":%d,"status":"FINISHED","used":%b,"generated":%b}\n'
                file.write(line % (number, used, generated))
        check(folder)
    finally:
        shutil.rmtree(folder)


def test_tasks_that_do_not_stand_alone_are_the_same(tmp_path: Path) -> None:
    write(
        tmp_path,
        header(),
        Workflow(workflow_id="w", name="train", status="RUNNING", started_at=NS),
        *(step(number, number, workflow_id="w", used={"i": number}) for number in range(1, 9)),
        OpenTask(task_id=20, used={"i": 1}, started_at=3 * NS),
        step(20, 3, status="RUNNING", ended_at=None),
        step(21, 3, status="RUNNING", ended_at=None),
        OpenTask(task_id=22, used={"i": 1}, started_at=3 * NS),
        step(22, 3, used={"i": 1}),
        Correction(task_id=4, status="ERROR"),
        step(21, 3),
        step(5, 9),
        OpenTask(task_id=6, used={"late": True}),
        step(23, 3, telemetry_at_start={"mem": 1}),
    )
    write(tmp_path, header("j2"), step(1, 3), Footer(at=NS, captured=1, written=1))
    column_frame.column_frame(_journals(tmp_path))
    for merge in (False, True):
        check(tmp_path, merge=merge)
        check(tmp_path, merge=merge, workflow_id="w")


@pytest.mark.parametrize(
    "record",
    [
        step("elsewhere", 1),
        step(1, 1, subtype="dask_task"),
        step(1, 1, dependencies=["dask:x"]),
        step(10**12, 1),
        step(1, started_at=-(2**63)),
        Correction(task_id="j2-1"),
        Sample(at=NS, values={"mem": {"used_bytes": 1}}),
    ],
)
def test_what_depends_on_other_records_is_read_row_by_row(tmp_path: Path, record: Record) -> None:
    write(tmp_path, header(), step(0), record)
    with pytest.raises(NotPlainError):
        column_frame.column_frame(_journals(tmp_path))
    check(tmp_path)


def test_lines_in_any_form_and_damage_are_the_same(tmp_path: Path) -> None:
    path = write(tmp_path, header(), step(0, 1, used={"x": 1}))
    with path.open("ab") as file:
        file.write(b'{"task_id": 1, "type": "task", "used": {"x": 1}}\n')
        file.write(b'\0\0\0{"type":"task","task_id":2,"used":5}\n\n  \n')
        file.write(b'{"type":"task","task_id":3,"used":{"x":1}}\n{"type":"nothing"}\nno json\n')
        file.write(b'{"type":"task","task_id":4,"status":"FINISHED","pid":"7"}\n')
        file.write(b'{"type":"task","task_id":5,"status":"FINISHED","torn')
    check(tmp_path)
    assert set(Buffer(tmp_path).frame()["task_id"]) == {"j1-0", "j1-1", "j1-3"}


def test_an_unknown_workflow_is_said(tmp_path: Path) -> None:
    write(tmp_path, header(), Workflow(workflow_id="w", name="train"), step(1, 1, workflow_id="w"))
    with pytest.raises(UnknownIdError, match="no workflow"):
        Buffer(tmp_path).frame(workflow_id="x")


def test_equal_values_are_one_object(tmp_path: Path) -> None:
    write(tmp_path, header(), *(step(number, 1, used={"shape": [3, 4]}) for number in range(9)))
    cells = Buffer(tmp_path).frame()["used"]
    assert len({id(cell) for cell in cells}) == 1
    assert all(isinstance(cell, dict) for cell in cells)


def test_numbers_that_no_process_has_are_missing(tmp_path: Path) -> None:
    write(tmp_path, header(), step(1, 1, pid=-(2**63)), step(2, 2, pid=7, rank=3), step(3, 3))
    frame = Buffer(tmp_path).frame()
    assert frame["pid"].tolist() == [pd.NA, 7, 99]
    assert frame["duration"].tolist() == [1.0] * 3
    check(tmp_path)


def _journals(folder: Path) -> list[JournalSummary]:
    return Buffer(folder)._journals_of(None)


def test_a_line_of_a_task_has_the_fields_of_a_task() -> None:
    assert TaskLine.__struct_fields__ == Task.__struct_fields__
