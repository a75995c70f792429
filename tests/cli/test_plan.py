"""``flowprov plan``: as many rows as the run then records, and about as many bytes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import flowprov as package
from flowprov.cli import main
from flowprov.journal.format import find_journals
from flowprov.plan import Program, plan
from flowprov.settings import load_settings
from tests.support import run

_TRAIN = """
    import sys
    import flowprov

    @flowprov.task
    def preprocess(name):
        return {"size": len(name)}

    with flowprov.workflow("training"):
        for name in ("a", "bc"):
            preprocess(name)
        epochs = flowprov.EpochLoop(4)
        for epoch in epochs:
            for step, count in (("train", 5), ("val", 2)):
                for batch in flowprov.BatchLoop(count, step=step):
                    pass
            epochs.end_iter(train_loss=0.123456789, val_loss=0.987654321)
"""
_MODEL = """
    import torch
    import flowprov

    @flowprov.torch_capture
    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = torch.nn.Linear(4, 4), torch.nn.Linear(4, 1)
        def forward(self, x):
            return self.second(self.first(x))

    with flowprov.workflow("training"):
        model = Model()
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        for epoch in flowprov.EpochLoop(5):
            for batch in flowprov.BatchLoop(3):
                optimizer.zero_grad()
                model(torch.ones(2, 4)).sum().backward()
                optimizer.step()
            with torch.no_grad():
                for batch in flowprov.BatchLoop(4, step="val"):
                    model(torch.ones(2, 4))
"""


def planned(*arguments: str) -> Any:
    result = CliRunner().invoke(main, ["plan", "--json", *arguments])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def check(folder: Path, found: Any) -> None:
    """Compare a plan with what was recorded."""
    (path,) = find_journals(folder)
    assert len(package.read_buffer(folder / "flowprov_buffer")) == found["rows"]
    assert path.stat().st_size / 2 < found["bytes"] < path.stat().st_size * 2
    assert found["rows"] == sum(part["rows"] for part in found["parts"])
    assert found["bytes"] == sum(part["bytes"] for part in found["parts"])


@pytest.mark.parametrize("torch", ["{capture_batches_at_every: 2}", "{epoch_loop: ~}"])
def test_loops_and_tasks_are_planned_as_they_are_recorded(tmp_path: Path, torch: str) -> None:
    run(_TRAIN, tmp_path, env={"FLOWPROV__INSTRUMENTATION__TORCH": torch})
    (tmp_path / "s.yaml").write_text(f"instrumentation: {{torch: {torch}}}")
    size = ("--tasks", "2", "--epochs", "4", "--batches", "5", "--batches", "2")
    check(tmp_path, planned("--settings", str(tmp_path / "s.yaml"), *size))


_ALL = """
    what: parent_and_children
    children_mode: tensor_inspection
    tensor_statistics: true
    backward: true
    optimizer: steps
    capture_epochs_at_every: 3
    capture_batches_at_every: 2
"""


_SIZE = ("--epochs", "5", "--batches", "3", "--batches", "4", "--modules", "3")


def test_forwards_backward_passes_and_steps_are_those_of_thinned_loops(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text(f"instrumentation:\n  torch: {_ALL}")
    parts = planned("--settings", str(tmp_path / "s.yaml"), *_SIZE)["parts"]
    assert {part["kind"]: part["rows"] for part in parts} == {
        "processes": 0,
        "workflows": 1,
        "models": 1,
        "epochs": 5,
        "batches": 5 * (2 + 2),
        "forwards": 2 * (2 + 2) * 3,
        "backward passes": 2 * 2,
        "optimizer steps": 2 * 2,
    }


@pytest.mark.soak
def test_forwards_are_planned_as_they_are_recorded(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    (tmp_path / "s.yaml").write_text(f"instrumentation:\n  torch: {_ALL}")
    run(_MODEL, tmp_path, env={"FLOWPROV_SETTINGS_PATH": "s.yaml"})
    check(tmp_path, planned("--settings", str(tmp_path / "s.yaml"), *_SIZE))


def test_a_search_of_many_runs_is_so_many_trainings() -> None:
    settings = load_settings(overrides={"instrumentation.torch.batch_loop": None}, environ={})
    search = Program(dask_tasks=100, trainings=100, epochs=10, processes=8)
    assert plan(settings, search).rows == 1 + 200 + 1000
    off = load_settings(overrides={"instrumentation.enabled": False}, environ={})
    assert plan(off, search).rows == 1 + 200
    assert plan(off, Program(epochs=10, tasks=5)).rows == 0


def test_telemetry_has_no_rows_and_its_bytes_need_the_time() -> None:
    settings = load_settings(overrides={"telemetry_capture": {"cpu": True, "interval": 2}}, environ={})
    unknown, hour = (plan(settings, Program(processes=2, seconds=seconds)) for seconds in (None, 3_600.0))
    assert unknown.rows == hour.rows
    assert hour.size - unknown.size == unknown.samples_per_hour == 2 * 1_800 * 400
    arguments = ["--set", "telemetry_capture.cpu=true", "plan"]
    assert "of telemetry in each hour" in CliRunner().invoke(main, arguments).stdout
    shown = CliRunner().invoke(main, [*arguments, "--time", "90m"]).stdout
    assert "of telemetry" not in shown
    assert "\ntelemetry " in shown


def test_the_table_ends_with_the_sum() -> None:
    shown = CliRunner().invoke(main, ["plan", "--epochs", "3000", "--batches", "7"]).stdout.splitlines()
    assert shown[0].split() == ["kind", "rows", "size"]
    assert shown[-1].split() == ["in", "all", "24,001", "8.25", "MB"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--epochs", "-1"), "-1 is not in the range"),
        (("--epochs", "9" * 400), "is not in the range"),
        (("--batches", "many"), "'many' is not a valid integer"),
        (("--time", "soon"), "soon is no time"),
        (("--settings", "missing.yaml"), "missing.yaml"),
    ],
)
def test_a_mistake_is_one_message_and_status_2(arguments: tuple[str, ...], said: str) -> None:
    result = CliRunner().invoke(main, ["plan", *arguments])
    assert (result.exit_code, result.stdout) == (2, "")
    assert said in result.stderr


def test_a_profile_is_planned_by_its_name() -> None:
    def rows(*options: str, first: tuple[str, ...] = ()) -> Any:
        sizes = ("--epochs", "4", "--batches", "5", "--modules", "3", "--time", "1h", "--json")
        result = CliRunner().invoke(main, [*first, "plan", *options, *sizes])
        assert result.exit_code == 0, result.output
        return json.loads(result.output)["parts"]

    assert rows("--profile", "full") == rows(first=("--set", "profile=full")) != rows()
    wrong = CliRunner().invoke(main, ["plan", "--profile", "ful"])
    assert wrong.exit_code == 2
    assert "ful" in wrong.output
