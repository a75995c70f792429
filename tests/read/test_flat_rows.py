"""Rows with a column for each value."""

from __future__ import annotations

from pathlib import Path

import pytest

import flowprov

pd = pytest.importorskip("pandas")


@pytest.fixture
def recorded(buffer: Path) -> Path:
    """A workflow with values of all kinds."""
    used = {"lr": 0.5, "model": {"layers": 2}, "files": ["a", "b"], "mixed": 1}
    task_used = {"lr": 1, "mixed": "x", "attempt": 3}
    with flowprov.workflow("w", used=used), flowprov.task_scope("t", used=task_used) as scope:
        scope.set_generated(loss=0.25, ok=True)
    return buffer


def test_each_value_has_a_column_of_its_type(recorded: Path) -> None:
    frame = flowprov.read_buffer(flat=True)
    assert not {"used", "generated", "custom_metadata"} & set(frame.columns)
    assert list(frame["used.lr"]) == [0.5, 1.0]
    assert frame["used.model.layers"].iloc[0] == 2
    assert frame["used.files"].iloc[0] == '["a", "b"]'
    assert list(frame["used.mixed"]) == ["1", "x"]
    assert frame["generated.loss"].dtype == "float64"
    assert pd.isna(frame["generated.loss"].iloc[0])
    assert {"status", "duration", "used.attempt", "attempt"} <= set(frame.columns)
    assert len(frame) == 2


def test_dictionaries_are_flat_too(recorded: Path) -> None:
    workflow, task = flowprov.read_buffer(flat=True, return_df=False)
    assert workflow["used.model.layers"] == 2
    assert task["generated.ok"] is True
    assert "used" not in task


def test_a_flat_table_can_be_written(recorded: Path, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    flowprov.read_buffer(flat=True).to_parquet(tmp_path / "flat.parquet")
    assert list(pd.read_parquet(tmp_path / "flat.parquet")["used.lr"]) == [0.5, 1.0]


def test_an_empty_buffer_is_flat_as_it_is(tmp_path: Path) -> None:
    assert flowprov.read_buffer(tmp_path, flat=True).empty
