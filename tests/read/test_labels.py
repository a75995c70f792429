"""Rows that stand beside each other can be told apart by their lines."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import pytest

import flowprov
from flowprov.read import Buffer, read_buffer, tree
from flowprov.read.labels import labels_of
from flowprov.read.outline import Outline
from flowprov.read.source import Source
from flowprov.records import Workflow
from tests.journal.support import NS, header, step, write
from tests.support import run


def lines_of(folder: Path, **options: Any) -> list[str]:
    return list(Outline(Source(folder).require_campaign(), **options).lines())


ALIKE: dict[str, list[Any]] = {
    "the first values are the same": [
        {"a": 1, "b": 2, "c": 3, "d": 4, "e": 5, "lr": lr} for lr in (0.1, 0.2, 0.3)
    ],
    "nested configurations": [{"config": {"seed": 1, "model": {"width": width}}} for width in (64, 128)],
    "numbers that differ late": [{"lr": lr} for lr in (0.123456, 0.123457, 0.1234561)],
    "long paths that differ at their end": [
        {"path": f"/data/experiments/2026/a-long-folder-name/run_{number}.yaml"} for number in range(3)
    ],
    "long texts that differ at their beginning": [
        {"prompt": f"{n} " + "so on and on " * 9} for n in range(3)
    ],
    "lists": [{"layers": [64, 64]}, {"layers": [64, 32]}, {"layers": [64]}],
    "one has none": [{"scheduler": None}, {"scheduler": "cosine"}],
    "true and 1": [{"x": True}, {"x": False}],
    "a name that only some have": [{"x": 1}, {"x": 1, "dropout": 0.5}],
    "control characters": [{"x": "a\nb"}, {"x": "a\rb"}],
}


@pytest.mark.parametrize("used", ALIKE.values(), ids=ALIKE)
def test_the_parameters_tell_calls_of_one_function_apart(used: list[Any], buffer: Path) -> None:
    @flowprov.task
    def train(**parameters: object) -> None:
        pass

    with flowprov.workflow("W"):
        for parameters in used:
            train(**parameters)
    printed = lines_of(buffer)[1:]
    # All but the durations, which differ anyway.
    assert len({tuple(line.split("  ")[4:]) for line in printed}) == len(used)
    assert all(line.isprintable() for line in printed)


def test_workflows_of_one_name_are_told_apart_too(buffer: Path) -> None:
    for lr in (0.1, 0.01):
        with flowprov.campaign(campaign_id="search"), flowprov.workflow("train", used={"lr": lr}) as workflow:
            workflow.set_generated(loss=lr * 2)
    first, second = lines_of(buffer)
    assert first.endswith("lr=0.1  -> loss=0.2")
    assert second.endswith("lr=0.01  -> loss=0.02")
    assert tree(read_buffer()).splitlines() == [first, second]


def test_an_error_is_shown_by_its_first_line(buffer: Path) -> None:
    @flowprov.task
    def train(message: str) -> None:
        raise ValueError(message)

    with flowprov.workflow("W"):
        for message in ("diverged\nat step 3", "x" * 1000, "", "\x1b[31mred"):
            with contextlib.suppress(ValueError):
                train(message)
    endings = [line.rpartition("  ")[2] for line in lines_of(buffer)[1:]]
    assert endings[0] == "ValueError: diverged"
    assert len(endings[1]) <= 160
    assert endings[2] == "ValueError"
    assert endings[3] == r"ValueError: \x1b[31mred"


def test_a_workflow_that_failed_shows_why(tmp_path: Path) -> None:
    code = "import flowprov\nwith flowprov.workflow('W'):\n    raise KeyError('missing')"
    run(code, tmp_path, status=1)
    assert lines_of(tmp_path / "flowprov_buffer")[0].endswith("  KeyError: 'missing'")


def test_an_iteration_that_was_left_early_says_so(buffer: Path) -> None:
    with flowprov.workflow("W"):
        for number in flowprov.Loop(5, name="epoch"):
            if number == 2:
                break
    assert [line.endswith("left early") for line in lines_of(buffer)[1:]] == [False, False, True]


def test_the_rank_stands_once_where_it_changes(tmp_path: Path) -> None:
    for rank in range(2):
        write(
            tmp_path,
            header(f"r{rank}", pid=rank + 1, rank=rank),
            Workflow(workflow_id="w", name="DDP", status="RUNNING", started_at=NS),
            step(0, rank + 1, workflow_id="w", activity_id="epoch"),
            step(1, rank + 1, parent_task_id=0, activity_id="batch"),
        )
    assert [line.split("1.0 s")[-1].strip() for line in lines_of(tmp_path)[1:]] == [
        "rank 0",
        "",
        "rank 1",
        "",
    ]


def test_the_last_epochs_are_shown(buffer: Path) -> None:
    with flowprov.workflow("W"):
        loop = flowprov.EpochLoop(100)
        for epoch in loop:
            loop.end_iter({"loss": 1 / (epoch + 1)})
    _, more, *lines = lines_of(buffer, most=3)
    assert more == "  ... 97 earlier epoch_iteration"
    assert [line.split("  ")[4:] for line in lines] == [
        [f"epoch={epoch}", f"-> loss={1 / (epoch + 1):.4g}"] for epoch in (97, 98, 99)
    ]
    assert lines_of(buffer, most=3) == tree(read_buffer(), most=3).splitlines()


def test_a_model_is_not_confused_with_its_forwards(buffer: Path) -> None:
    torch = pytest.importorskip("torch")
    with flowprov.workflow("W"):
        model = flowprov.torch_capture(torch.nn.Linear(2, 2))
        for _ in range(50):
            model(torch.ones(1, 2))
        for _ in flowprov.Loop(1, name="epoch"):
            for _ in range(3):
                model(torch.ones(1, 2))
    printed = lines_of(buffer)
    assert sum("Linear (model)" in line for line in printed) == 1
    assert [line.split("  ")[-3] for line in printed if "\N{MULTIPLICATION SIGN}" in line] == [
        f"Linear (forward) \N{MULTIPLICATION SIGN}{count}" for count in (50, 3)
    ]
    assert sum("Linear (forward)" in line for line in lines_of(buffer, most=99, fold_forwards=False)) == 53


def test_values_that_are_no_scalars_are_left_out(buffer: Path) -> None:
    rows: list[Any] = [
        {"task_id": "a", "activity_id": "f", "status": "FINISHED", "used": used}
        for used in (None, "text", {"t": {"type": "torch.Tensor", "shape": [2]}, "p": {"$redacted": True}})
    ]
    assert labels_of(rows) == ["f  FINISHED"] * 3


def test_every_form_of_rows_has_the_same_lines(buffer: Path) -> None:
    with flowprov.workflow("W"):
        for number in flowprov.Loop(3, name="epoch"):
            if number == 2:
                break
    rows = list(Buffer().records())
    assert tree(rows).splitlines() == tree(read_buffer()).splitlines() == lines_of(buffer)
