"""The checks of the ladder accept a right record and see what is wrong with another."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest
from ladder_checks import EXPECTED_ROWS, check_step
from tree import format_tree

from tests.examples.support import LOSSES, Row, record_of


def problems(step: int, rows: list[Row], losses: list[tuple[float, float]]) -> str:
    return "\n".join(check_step(step, pd.DataFrame(rows), losses))


@pytest.mark.parametrize("step", EXPECTED_ROWS)
def test_a_right_record_of_each_step_has_no_problems(step: int) -> None:
    rows = record_of(step)
    assert len(rows) == EXPECTED_ROWS[step]
    assert problems(step, rows, LOSSES) == ""


@pytest.mark.parametrize("step", EXPECTED_ROWS)
def test_a_missing_row_is_counted_and_the_rest_named(step: int) -> None:
    assert f"{EXPECTED_ROWS[step] - 1} rows, expected {EXPECTED_ROWS[step]}" in problems(
        step, record_of(step)[:-1], LOSSES
    )


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (("status", "ERROR", "parent_forward"), "status of a row TransformerModel is 'ERROR'"),
        (("parent_task_id", "dask", "parent_forward"), "forwards by parent task"),
        (("used", {"src": {"shape": [1], "dtype": "int64"}}, "parent_forward"), "no shape, dtype and device"),
        (("custom_metadata", {"epoch": 0, "module_path": ""}, "parent_forward"), "lacks ['is_training']"),
        (("workflow_id", "SearchWorkflow", "parent_forward"), "workflow_id of a row TransformerModel"),
        (("task_id", "epoch0", "parent_forward"), "more than one thing: ['epoch0']"),
        (("started_at", pd.Timestamp("2025-12-31", tz="UTC"), "parent_forward"), "is not within"),
        (("parent_task_id", None, "iteration"), "parent_task_id of a row epoch_iteration is None"),
        (("generated", {"train_loss": 0.0}, "iteration"), "losses recorded"),
        (("campaign_id", "other", "iteration"), "the rows of the campaign have campaign_id"),
        (("used", {}, "dask_task"), "lacks its parameters"),
        (("task_id", "again", "dask_task"), "the messages of the Dask task have task_id"),
        (("activity_id", "train", "dask_task"), "row train is 'train', expected 'model_train'"),
        (("used", None, "iteration"), "cannot be checked further"),
    ],
)
def test_one_wrong_value_in_one_row_is_said(wrong: tuple[str, Any, str], said: str) -> None:
    column, value, kind = wrong
    rows = record_of(6)
    next(row for row in rows if row["subtype"] == kind)[column] = value
    assert said in problems(6, rows, LOSSES)


def test_losses_other_than_the_printed_ones_are_said() -> None:
    assert "printed" in problems(3, record_of(3), [(9.0, 9.0), *LOSSES[1:]])


def test_forwards_of_an_epoch_that_should_be_left_out_are_said() -> None:
    assert "forwards by parent task" in problems(5, record_of(6), LOSSES)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (("parent_task_id", "epoch0-forward0"), "the forward of pos_encoder.dropout stands under that of ''"),
        (("used", {}), "the forward of pos_encoder.dropout holds no tensors"),
        (("status", "ERROR"), "status of a row Module is 'ERROR'"),
        (("custom_metadata", {"module_path": "decoder"}), "forwards by module"),
    ],
)
def test_one_wrong_value_in_one_forward_of_a_module_is_said(wrong: tuple[str, Any], said: str) -> None:
    column, value = wrong
    rows = record_of(9)
    next(row for row in rows if row["task_id"] == "epoch0-forward0-pos_encoder.dropout")[column] = value
    assert said in problems(9, rows, LOSSES)


@pytest.mark.parametrize("column", ["telemetry_at_start", "telemetry_at_end"])
def test_a_row_without_readings_is_said(column: str) -> None:
    rows = record_of(8)
    next(row for row in rows if row["task_id"] == "epoch1")[column] = None
    assert f"{column} of a row epoch_iteration holds []" in problems(8, rows, LOSSES)


def test_the_tree_shows_each_thing_once_under_what_it_belongs_to() -> None:
    lines = format_tree(pd.DataFrame(record_of(6))).splitlines()
    assert len(lines) == 1 + 33 - 1  # the campaign, and one line for the two messages of the Dask task
    assert lines[0] == "campaign campaign"
    assert lines[1] == "  workflow DataPrepWorkflow  FINISHED  5000.0 ms"
    assert lines[2] == "  workflow SearchWorkflow  FINISHED  70000.0 ms"
    assert lines[3] == "    dask_task model_train  FINISHED  59500.0 ms"
    assert lines[4] == "      iteration epoch_iteration i=0 train_loss=4.0 val_loss=3.9  FINISHED  9000.0 ms"
    assert lines[5] == "        parent_forward TransformerModel training  FINISHED  500.0 ms"
    assert lines[-1] == "    workflow TransformerModel  FINISHED  58400.0 ms"


def test_the_tree_shows_a_task_that_has_not_ended() -> None:
    rows = [row for row in record_of(1) if row["status"] != "FINISHED"]
    assert "model_train  RUNNING  -" in format_tree(pd.DataFrame(rows))
