"""The tree of a campaign is the same from Parquet files and from journals."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import flowprov
from flowprov.read.compaction import compact
from flowprov.read.outline import Outline
from flowprov.read.parquet_writer import ParquetWriter
from flowprov.read.source import Source
from flowprov.records import Footer, OpenTask, Record, Task, Workflow
from tests.journal.support import NS, header, step, write
from tests.read.buffers import Journals, campaigns, first_numbers, write_campaign

pytest.importorskip("duckdb")
_writer = ParquetWriter()
# The heartbeat saw that the task was open; before it wrote so, the task ended and the file rolled.
_OPEN = OpenTask(task_id=0, status="RUNNING", started_at=NS)
_ITERATION = Task(task_id=0, activity_id="a_iteration", subtype="iteration", status="FINISHED")


def tree(folder: Path, *, compacted: bool, most: int = 6, fold_forwards: bool = True) -> list[str]:
    """Return the lines of the only campaign in a folder, and what is named besides."""
    source = Source(folder)
    journals = source.require_campaign()
    if compacted:
        compact(journals, source.digests, _writer)
        journals = source.require_campaign()
    outline = Outline(journals, digests=source.digests, most=most, fold_forwards=fold_forwards)
    lines = list(outline.lines())
    named = [*outline.slowest(), *outline.failed()]
    return [*lines, f"{outline.failures} failed", *(f"{key}: {outline.label(key)}" for key in named)]


def check(journals: Journals, most: int, firsts: list[int] | None, *, fold: bool) -> None:
    folder = Path(tempfile.mkdtemp())
    try:
        write_campaign(folder, journals, firsts=firsts)
        expected = tree(folder, compacted=False, most=most, fold_forwards=fold)
        assert tree(folder, compacted=True, most=most, fold_forwards=fold) == expected
    finally:
        shutil.rmtree(folder)


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@example([([], False, 0), ([_ITERATION], False, None)], 1, False, None)
@example([([step(0), step(1, 2)], True, None), ([_OPEN], True, None)], 1, False, [1, 2])
@given(campaigns, st.integers(0, 3), st.booleans(), first_numbers)
def test_the_tree_is_the_same(
    journals: Journals,
    most: int,
    fold: bool,  # noqa: FBT001 - drawn
    firsts: list[int] | None,
) -> None:
    check(journals, most, firsts, fold=fold)


@pytest.mark.soak
@settings(max_examples=1_000, deadline=None, suppress_health_check=list(HealthCheck))
@given(campaigns, st.integers(0, 3), st.booleans(), first_numbers)
def test_the_tree_is_the_same_in_many_buffers(
    journals: Journals,
    most: int,
    fold: bool,  # noqa: FBT001 - drawn
    firsts: list[int] | None,
) -> None:
    check(journals, most, firsts, fold=fold)


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
    monkeypatch.setattr("flowprov.read.outline_lines.JournalReader", None)
    assert tree(tmp_path, compacted=False) == expected
    assert sum("epoch" in line for line in expected) == 7


def test_what_was_logged_in_shown_tasks_is_read_from_the_files(buffer: Path) -> None:
    @flowprov.task
    def train(lr: float) -> None:
        flowprov.log_metrics(setup=1)
        for batch in flowprov.BatchLoop(30):
            flowprov.log_metrics(loss=lr / (batch + 1))

    with flowprov.workflow("W"):
        flowprov.log_metrics(all=2)
        train(0.1)
    flowprov.configure(journal={"path": str(buffer) + "2"})
    expected = tree(buffer, compacted=False)
    assert sum("loss=" in line for line in expected) == 6
    assert any("setup=1" in line for line in expected)
    assert any("all=2" in line for line in expected)
    assert tree(buffer, compacted=True) == expected
