"""Rows as a Dask DataFrame: partitions that can be read without each other."""

from __future__ import annotations

from pathlib import Path

import pytest

import flowprov
from flowprov.read.compaction import compact
from flowprov.read.parquet_writer import ParquetWriter
from flowprov.read.source import Source
from flowprov.records import Footer, Record, Workflow
from tests.journal.support import NS, header, step, write

pytest.importorskip("duckdb")
pytest.importorskip("dask.dataframe")


def _journal(folder: Path, number: int, workflow: str, *records: Record) -> None:
    opening = Workflow(workflow_id=workflow, name="train", status="RUNNING", started_at=NS)
    end = Footer(at=9 * NS, captured=1 + len(records), written=1 + len(records))
    write(folder, header(f"{number:032x}", pid=100 + number), opening, *records, end)


def _compact(folder: Path) -> None:
    source = Source(folder)
    compact(source.campaign("c1"), source.digests, ParquetWriter())


def test_each_compacted_journal_is_a_partition(tmp_path: Path) -> None:
    for number in range(3):
        _journal(tmp_path, number, f"w{number}", step(1, at=number + 1, workflow_id=f"w{number}"))
    whole = flowprov.Buffer(tmp_path).dask_frame()
    assert whole.npartitions == 1
    _compact(tmp_path)
    frame = flowprov.Buffer(tmp_path).dask_frame()
    assert frame.npartitions == 3
    expected = sorted(flowprov.Buffer(tmp_path).frame()["task_id"].dropna())
    for one in (whole, frame):
        computed = one.compute(scheduler="synchronous")
        assert sorted(computed["task_id"].dropna()) == expected
        assert list(computed.columns) == list(flowprov.read.COLUMNS)


def test_journals_of_one_workflow_and_tasks_inside_of_others_share_a_partition(tmp_path: Path) -> None:
    _journal(tmp_path, 0, "w", step(1, workflow_id="w"))
    _journal(tmp_path, 1, "w", step(1, workflow_id="w"))
    _journal(tmp_path, 2, "inner", step(1, workflow_id="inner", parent_task_id=f"{0:032x}-1"))
    _journal(tmp_path, 3, "other", step(1, workflow_id="other"))
    _compact(tmp_path)
    frame = flowprov.Buffer(tmp_path).dask_frame()
    assert sorted(len(part.compute(scheduler="synchronous")) for part in frame.partitions) == [2, 5]
