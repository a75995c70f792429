"""The end of the ladder: the configuration that won, and commands that work when they are typed."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from winner import find_winner, format_ending, next_commands

import flowprov
from flowprov.runtime import runtime
from tests.examples.support import Row, record_of, type_command


def _search(*losses: float | None) -> pd.DataFrame:
    """Return the rows of a search with one Dask task for each loss; one without a loss failed."""
    rows: list[Row] = []
    for number, loss in enumerate(losses):
        task = {**record_of(1)[1], "task_id": f"task-{number}", "used": {"lr": number, "emsize": 32}}
        rows += [task, task | (_failed() if loss is None else _finished(loss))]
    frame: pd.DataFrame = pd.DataFrame(rows)
    return frame


def _failed() -> Row:
    return {"status": "ERROR", "generated": None}


def _finished(loss: float) -> dict[str, Any]:
    generated = {"best_val_loss": loss, "best_epoch": 2, "test_loss": 0.5, "checkpoint_path": "/runs/best.pt"}
    return {"status": "FINISHED", "generated": generated}


def test_the_lowest_validation_loss_wins() -> None:
    winner, configurations = find_winner(_search(3.0, 1.0, 2.0))
    assert winner is not None
    assert winner["task_id"] == "task-1"
    assert configurations == 3


def test_a_loss_that_diverged_and_a_configuration_that_failed_do_not_win() -> None:
    winner, configurations = find_winner(_search(math.nan, None, 2.0))
    assert winner is not None
    assert winner["task_id"] == "task-2"
    assert configurations == 2


def test_the_ending_names_parameters_losses_task_checkpoint_and_buffer(tmp_path: Path) -> None:
    ending = format_ending(_search(3.0, 1.0), tmp_path / "buffer")
    for said in (
        "won, of 2 that ended well",
        "val_loss 1.0 in epoch 2",
        "test_loss 0.5",
        "emsize=32 lr=1",
        "task_id task-1",
        "checkpoint /runs/best.pt",
        f"records are in {tmp_path / 'buffer'}",
    ):
        assert said in ending


def test_a_search_in_which_all_failed_has_no_winner(tmp_path: Path) -> None:
    assert format_ending(_search(None, None), tmp_path) == ""


@pytest.mark.parametrize("folder", ["buffer", 'it\'s a "buffer" $HOME'])
def test_the_three_commands_work_when_they_are_typed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str
) -> None:
    monkeypatch.chdir(tmp_path)
    flowprov.configure(journal={"path": folder})
    with flowprov.workflow("search"), flowprov.task_scope("step", subtype="part"):
        pass
    runtime.reset()
    commands = next_commands(tmp_path / folder)
    assert all(str(tmp_path) not in command for command in commands)  # a person types relative paths
    show, verify, table = (type_command(command, tmp_path) for command in commands)
    assert "step  FINISHED" in show
    assert verify.splitlines()[-1].startswith("COMPLETE")
    assert re.search(r"^part +step +1 ", table, re.MULTILINE)
