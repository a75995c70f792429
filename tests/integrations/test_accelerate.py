"""``FlowprovTracker``: the run is what another tracker of the same Accelerator was told."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

import flowprov
from tests.integrations.support import (
    Curves,
    DiedError,
    assert_no_fault,
    curves,
    logged,
    run_of,
)
from tests.support import only
from tests.torch.third_party import load

accelerate = load("accelerate")

from flowprov.integrations.accelerate import FlowprovTracker  # noqa: E402 - skipped without it

STEPS, SAVED, DIED = 6, 2, 4


class ListTracker(accelerate.tracking.GeneralTracker):  # type: ignore[misc, name-defined]
    """Keeps what it is told."""

    name = "list"
    requires_logging_directory = False
    tracker = None

    def __init__(self) -> None:
        super().__init__()
        self.told: list[dict[str, Any]] = []

    def log(self, values: dict[str, Any], step: int | None = None, **_: Any) -> None:
        """Keep it."""
        self.told.append({**values, "step": step})


def train(folder: Path, *, load_from: Path | None = None, dies_at: int | None = None) -> Curves:
    """Train for a few steps; return what the Accelerator told its other tracker."""
    torch.manual_seed(0)
    other = ListTracker()
    accelerator = accelerate.Accelerator(cpu=True, log_with=[FlowprovTracker(), other])
    model = torch.nn.Linear(4, 1)
    model, optimizer = accelerator.prepare(model, torch.optim.SGD(model.parameters(), lr=0.1))
    accelerator.init_trackers("project", config={"lr": 0.1})
    first = 0
    if load_from is not None:
        accelerator.load_state(str(load_from))
        first = SAVED + 1
    for step in range(first, STEPS):
        if step == dies_at:
            raise DiedError
        loss = (model(torch.full((2, 4), step + 1.0)) - 1).square().mean()
        accelerator.backward(loss)
        optimizer.step()
        optimizer.zero_grad()
        accelerator.log({"loss": loss.item()}, step=step)
        if step == SAVED:
            accelerator.save_state(str(folder / "state"))
    accelerator.end_training()
    return logged(other.told)


def test_the_run_is_what_another_tracker_was_told(buffer: Path, tmp_path: Path) -> None:
    told = train(tmp_path)
    run = run_of(buffer)
    assert (run["name"], run["status"], run["params.lr"]) == ("training", "FINISHED", 0.1)
    assert curves(buffer, run["run_id"]) == told
    saved = only(flowprov.artifacts(buffer).to_dict("records"))
    assert (saved["role"], saved["kind"], saved["step"], saved["state"]) == (
        "generated",
        "checkpoint",
        SAVED,
        "digested",
    )
    with flowprov.workflow("search") as search:
        train(tmp_path / "again")
    last = flowprov.runs(buffer).to_dict("records")[-1]
    assert (last["run_id"], curves(buffer, last["run_id"])) == (search.workflow_id, told)
    assert_no_fault()


def test_a_program_that_died_and_its_second_attempt_are_one_run(buffer: Path, tmp_path: Path) -> None:
    with pytest.raises(DiedError):
        train(tmp_path, dies_at=DIED)
    # The second attempt finds the checkpoint by its content, whatever it is called.
    shutil.copytree(tmp_path / "state", tmp_path / "moved")
    later = train(tmp_path, load_from=tmp_path / "moved")
    run = run_of(buffer)
    assert (run["status"], run["attempts"]) == ("FINISHED", 2)
    found = curves(buffer, run["run_id"])
    assert [step for _, step in found] == list(range(STEPS))
    assert found.items() >= later.items()
    roles = flowprov.artifacts(buffer)["role"].tolist()
    assert roles == ["generated", "used"]
    assert flowprov.runs(buffer, attempts=True)["status"].tolist() == ["ERROR", "FINISHED"]
    assert_no_fault()
