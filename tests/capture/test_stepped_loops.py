"""Loops that a framework runs: its calls say when an iteration begins and ends."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import flowprov
from flowprov import guard
from flowprov.capture.stepped_loops import SteppedBatches, SteppedEpochs
from tests.support import tasks


def rows(buffer: Path) -> list[tuple[Any, ...]]:
    found = tasks(buffer)
    names = {task.task_id: (task.activity_id or "").removesuffix("_iteration") for task in found}
    return [
        (
            names[task.task_id],
            (task.used or {})["i"],
            task.status,
            names.get(task.parent_task_id or ""),
        )
        for task in found
    ]


def test_iterations_nest_as_those_of_loops_do(buffer: Path) -> None:
    epochs, batches = SteppedEpochs(), SteppedBatches()
    with flowprov.workflow("W"):
        for epoch in range(2):
            epochs.begin(epoch, epoch)
            for position in range(2):
                batches.begin("batch", position, note=position)
                batches.end()
            assert not batches.is_open()
            batches.finish()
        epochs.finish()
        batches.end()  # nothing is open
        epochs.finish()
    batch = [("train_batch", 0, "FINISHED", "epoch"), ("train_batch", 1, "FINISHED", "epoch")]
    assert rows(buffer) == [*batch, ("epoch", 0, "FINISHED", None), *batch, ("epoch", 1, "FINISHED", None)]
    groups = [task.group_id for task in tasks(buffer)]
    assert len(set(groups)) == 3  # one pass over the epochs, and one over the batches of each
    assert [(task.custom_metadata or {}).get("note") for task in tasks(buffer)] == [0, 1, None] * 2
    assert guard.internal_errors() == {}


def test_an_exception_ends_them_and_what_is_never_ended_closes_with_its_workflow(buffer: Path) -> None:
    epochs, batches = SteppedEpochs(), SteppedBatches("eval")
    with flowprov.workflow("W"):
        epochs.begin(0, 0)
        batches.begin("batch", 0)
        batches.end(ValueError("no"))
        batches.begin("batch", 1)
    batches.finish()
    epochs.begin(1, 1)  # outside of any workflow
    assert set(rows(buffer)) == {
        ("eval_batch", 0, "ERROR", "epoch"),
        ("eval_batch", 1, "FINISHED", "epoch"),
        ("epoch", 0, "FINISHED", None),
    }
    assert len(rows(buffer)) == 3
    assert guard.internal_errors() == {}


@pytest.mark.parametrize(
    ("key", "value", "left"), [("epoch_loop", None, 4), ("capture_batches_at_every", 2, 3)]
)
def test_settings_thin_them_as_they_thin_loops(key: str, value: Any, left: int, buffer: Path) -> None:
    epochs, batches = SteppedEpochs(), SteppedBatches()
    with flowprov.configured(**{f"instrumentation__torch__{key}": value}), flowprov.workflow("W"):
        epochs.begin(0, 0)
        for position in range(4):
            batches.begin(position, position)
        epochs.finish()
        batches.finish()
    assert len(tasks(buffer)) == left
    assert guard.internal_errors() == {}
