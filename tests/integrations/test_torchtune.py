"""``FlowprovLogger`` for torchtune, by the protocol of its metric loggers; torchtune itself is not needed."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import flowprov
from flowprov.integrations.torchtune import FlowprovLogger
from tests.integrations.support import assert_no_fault, curves, run_of


@pytest.mark.parametrize("opened", [True, False])
def test_the_run_is_what_a_recipe_logs(opened: bool, buffer: Path) -> None:  # noqa: FBT001
    around = flowprov.workflow("recipe").start() if opened else None
    logger = FlowprovLogger(log_dir="logs", output_dir="out")
    logger.log_config({"optimizer": {"lr": 0.1}, "seed": 1})
    for step in range(1, 4):
        logger.log_dict({"loss": torch.tensor(1 / step), "lr": 0.1}, step=step)
    logger.log("accuracy", 0.5, step=3)
    logger.close()
    if around is not None:
        assert around.workflow_id == run_of(buffer)["run_id"]
        around.stop()
    run = run_of(buffer)
    assert (run["name"], run["status"]) == ("recipe" if opened else "training", "FINISHED")
    assert run["params.config.optimizer.lr"] == 0.1
    found = curves(buffer, run["run_id"])
    assert found == {
        **{("loss", step): pytest.approx(1 / step) for step in range(1, 4)},
        **{("lr", step): 0.1 for step in range(1, 4)},
        ("accuracy", 3): 0.5,
    }
    assert_no_fault()
