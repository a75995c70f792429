"""The tree of a campaign is the same from Parquet files and from journals."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flowprov.read.compaction import compact
from flowprov.read.outline import outline_lines
from flowprov.read.parquet_writer import ParquetWriter
from flowprov.read.source import Source
from flowprov.records import Footer, Record, Workflow
from tests.journal.support import NS, header, step, write
from tests.read.buffers import Journals, campaigns, write_campaign

pytest.importorskip("duckdb")
_writer = ParquetWriter()


def tree(folder: Path, *, compacted: bool, most: int = 6, fold_forwards: bool = True) -> list[str]:
    """Return the lines of the only campaign in a folder."""
    source = Source(folder)
    journals = source.require_campaign()
    if compacted:
        compact(journals, source.digests, _writer)
        journals = source.require_campaign()
    return list(outline_lines(journals, source.digests, most=most, fold_forwards=fold_forwards))


def check(journals: Journals, most: int, *, fold: bool) -> None:
    folder = Path(tempfile.mkdtemp())
    try:
        write_campaign(folder, journals)
        expected = tree(folder, compacted=False, most=most, fold_forwards=fold)
        assert tree(folder, compacted=True, most=most, fold_forwards=fold) == expected
    finally:
        shutil.rmtree(folder)


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(campaigns, st.integers(0, 3), st.booleans())
def test_the_tree_is_the_same(
    journals: Journals,
    most: int,
    fold: bool,  # noqa: FBT001 - drawn
) -> None:
    check(journals, most, fold=fold)


@pytest.mark.soak
@settings(max_examples=1_000, deadline=None, suppress_health_check=list(HealthCheck))
@given(campaigns, st.integers(0, 3), st.booleans())
def test_the_tree_is_the_same_in_many_buffers(
    journals: Journals,
    most: int,
    fold: bool,  # noqa: FBT001 - drawn
) -> None:
    check(journals, most, fold=fold)


def test_a_training_is_counted_in_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    records: list[Record] = [Workflow(workflow_id="w", name="train", status="RUNNING", started_at=NS)]
    for epoch in range(0, 100, 10):
        inside: dict[str, Any] = {
            "parent_task_id": epoch,
            "subtype": "iteration",
            "activity_id": "batch_iteration",
        }
        records += [
            step(number, workflow_id="w", generated={"loss": 1 / number}, **inside)
            for number in range(epoch + 1, epoch + 10)
        ]
        records.append(step(epoch, workflow_id="w", subtype="iteration", activity_id="epoch_iteration"))
    end = [Workflow(workflow_id="w", status="FINISHED", ended_at=3 * NS)]
    write(tmp_path, header(), *records, *end, Footer(at=9 * NS, captured=102, written=102))
    expected = tree(tmp_path, compacted=False)
    tree(tmp_path, compacted=True)
    monkeypatch.setattr("flowprov.read.outline.JournalReader", None)
    assert tree(tmp_path, compacted=False) == expected
    assert sum("epoch" in line for line in expected) == 7
