"""Recipes: classes in the shape of torchtune's, whose methods are the phases of a training."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import flowprov
from tests.support import run, start

pd = pytest.importorskip("pandas")


class Base:
    """What recipes inherit."""

    def __init__(self, cfg: Any) -> None:
        self.cfg = cfg
        self.seed = 7
        self.epochs_run = self.global_step = 0
        self.total_epochs = 2

    def load_checkpoint(self, cfg: Any) -> dict[str, int]:
        """Read the state of an earlier attempt."""
        path = Path(cfg.checkpoint_dir) / cfg.checkpoint_files[0]
        return dict(json.loads(path.read_text())) if path.exists() else {}

    def setup(self, cfg: Any) -> None:
        """Prepare the training."""
        state = self.load_checkpoint(cfg.checkpointer)
        if cfg.resume_from_checkpoint:
            self.epochs_run, self.global_step = state["epoch"], state["step"]

    def save_checkpoint(self, epoch: int) -> None:
        """Write the state."""
        folder = Path(self.cfg.checkpointer.output_dir) / f"epoch_{epoch}"
        folder.mkdir(parents=True)
        (folder / "model.json").write_text(json.dumps({"epoch": epoch + 1, "step": self.global_step}))

    def cleanup(self) -> None:
        """Do nothing."""


def config_of(folder: Path, checkpoint_dir: Path, *, resume: bool = False) -> SimpleNamespace:
    """Return a configuration in the shape of torchtune's."""
    checkpointer = SimpleNamespace(
        checkpoint_dir=str(checkpoint_dir), checkpoint_files=["model.json"], output_dir=str(folder / "out")
    )
    return SimpleNamespace(checkpointer=checkpointer, resume_from_checkpoint=resume, lr=0.02)


def create_recipe(**options: Any) -> Any:
    """Return a recipe whose training writes metrics and a checkpoint after each epoch."""

    @flowprov.recipe(**options)
    class Recipe(Base):
        def setup(self, cfg: Any) -> None:
            super().setup(cfg)

        def train(self) -> None:
            for epoch in range(self.epochs_run, self.total_epochs):
                for _ in range(3):
                    flowprov.log_metrics(loss=1 / (1 + self.global_step))
                    self.global_step += 1
                self.epochs_run += 1
                self.save_checkpoint(epoch=epoch)

    return Recipe


def drive(recipe: Any, cfg: Any) -> Any:
    """Run a recipe as torchtune does."""
    one = recipe(cfg=cfg)
    one.setup(cfg=cfg)
    one.train()
    one.cleanup()
    return one


def names_in(workflow_id: str) -> list[tuple[str, str | None]]:
    """Return the tasks of a workflow in their order, each with that around it."""
    rows = [row for row in flowprov.read_buffer(return_df=False) if row["workflow_id"] == workflow_id]
    names = {row.get("task_id"): row.get("activity_id") for row in rows}
    return [
        (row["activity_id"], names.get(row.get("parent_task_id"))) for row in rows if row["type"] == "task"
    ]


def test_phases_are_tasks_of_a_workflow_with_the_name_of_the_class(buffer: Path, tmp_path: Path) -> None:
    base = tmp_path / "base"
    base.mkdir()
    (base / "model.json").write_text("{}")
    one = drive(create_recipe(), config_of(tmp_path, base))
    assert type(one).__name__ == "Recipe"
    (run_row,) = flowprov.runs().to_dict("records")
    assert (run_row["name"], run_row["status"], run_row["params.config.lr"]) == ("train", "FINISHED", 0.02)
    assert names_in(run_row["workflow_id"]) == [
        ("init", None),
        ("setup", None),
        ("load_checkpoint", "setup"),
        ("train", None),
        ("save_checkpoint", "train"),
        ("save_checkpoint", "train"),
        ("cleanup", None),
    ]
    rows = {row.get("activity_id"): row for row in flowprov.read_buffer(return_df=False)}
    assert rows["train"]["generated"] == {"epochs_run": 2, "total_epochs": 2, "global_step": 6, "seed": 7}
    workflow = rows[None]
    assert (workflow["name"], workflow["status"]) == ("Recipe", "FINISHED")
    assert workflow["custom_metadata"]["config"]["lr"]["value"] == 0.02
    artifacts = flowprov.artifacts()
    assert artifacts[["role", "kind"]].to_numpy().tolist() == [["used", "checkpoint"]] + 2 * [
        ["generated", "checkpoint"]
    ]
    assert [Path(path).parent.name for path in artifacts["path"]] == ["base", "epoch_0", "epoch_1"]


def test_an_exception_that_leaves_a_phase_ends_the_workflow(buffer: Path, tmp_path: Path) -> None:
    recipe = create_recipe()
    error = RuntimeError("out of memory")

    def fail(self: Any, epoch: int) -> None:
        raise error

    other: Any = type("Other", (), {"save_checkpoint": fail})
    recipe.save_checkpoint = flowprov.recipe(other).save_checkpoint
    with pytest.raises(RuntimeError) as raised:
        drive(recipe, config_of(tmp_path, tmp_path))
    assert raised.value is error
    rows = {row.get("activity_id"): row["status"] for row in flowprov.read_buffer(return_df=False)}
    assert (rows[None], rows["train"], rows["save_checkpoint"], rows["setup"]) == (
        "ERROR",
        "ERROR",
        "ERROR",
        "FINISHED",
    )


def test_a_workflow_that_is_open_holds_the_phases(buffer: Path, tmp_path: Path) -> None:
    with flowprov.workflow("outer"):
        drive(create_recipe(), config_of(tmp_path, tmp_path))
        with flowprov.task_scope("afterwards"):
            pass
    workflows = [row for row in flowprov.read_buffer(return_df=False) if row["type"] == "workflow"]
    assert [row["name"] for row in workflows] == ["outer"]


def test_names_of_phases_config_and_folder_can_be_told(buffer: Path, tmp_path: Path) -> None:
    @flowprov.recipe(phases={"evaluate": "evaluation"}, config="options", checkpoints=lambda one: one.place)
    class Other:
        __slots__ = ("__dict__",)

        def __init__(self, place: Path) -> None:
            self.place = place
            self.options = {"lr": 3}

        def evaluate(self) -> int:
            return 4

        def save_checkpoint(self) -> None:
            (self.place / "x.pt").write_text("x")
            (buffer / "of flowprov").write_text("its buffer lies in this folder")

    one = Other(tmp_path)
    assert one.evaluate() == 4
    one.save_checkpoint()
    rows = flowprov.read_buffer(return_df=False)
    assert [row["activity_id"] for row in rows if row["type"] == "task"] == [
        "init",
        "evaluation",
        "save_checkpoint",
    ]
    assert [Path(path).name for path in flowprov.artifacts()["path"]] == ["x.pt"]
    assert rows[0]["used"]["config"] == {"lr": 3}
    assert vars(one).keys() == {"place", "options"}


def test_nothing_is_recorded_where_capture_is_off(buffer: Path, tmp_path: Path) -> None:
    with flowprov.configured(instrumentation={"enabled": False}):
        drive(create_recipe(), config_of(tmp_path, tmp_path))
    assert not list(buffer.rglob("*.jsonl"))


PROGRAM = """
    import os, signal, sys
    from pathlib import Path
    from tests.capture.test_recipe import config_of, create_recipe, drive
    import flowprov

    die, resume = sys.argv[1] == "die", sys.argv[1] == "resume"
    Recipe = create_recipe()
    if die:
        save = Recipe.save_checkpoint
        def save_checkpoint(self, epoch):
            save(self, epoch=epoch)
            os.kill(os.getpid(), signal.SIGKILL)
        Recipe.save_checkpoint = save_checkpoint
    loaded = Path("out/epoch_0") if resume else Path("base")
    sys.argv[1:] = ["--config", "tiny.yaml", "optimizer.lr=0.02"]
    one = Recipe(cfg=config_of(Path(), loaded, resume=resume))
    one.setup(cfg=one.cfg)
    one.train()
"""


def test_a_recipe_that_was_killed_goes_on_from_its_checkpoint_as_the_same_run(tmp_path: Path) -> None:
    with start(PROGRAM, tmp_path, "die") as process:
        process.communicate(timeout=120)
    run(PROGRAM, tmp_path, "resume")
    buffer = tmp_path / "flowprov_buffer"
    metrics = flowprov.metrics(buffer)
    assert metrics["step"].tolist() == list(range(6))
    assert metrics["value"].tolist() == [1 / (1 + step) for step in range(6)]
    (only,) = flowprov.runs(buffer).to_dict("records")
    assert (only["attempts"], only["status"], only["name"]) == (2, "FINISHED", "train")
    both = [row for one in flowprov.campaigns(buffer)["campaign_id"] for row in _workflows(buffer, one)]
    assert [row["status"] for row in both] == ["INTERRUPTED", "FINISHED"]
    assert both[1]["custom_metadata"]["resumed_from"]["epoch"] == 1
    assert both[1]["custom_metadata"]["resumed_from"]["step"] == 3


def _workflows(buffer: Path, campaign_id: str) -> list[Any]:
    rows = flowprov.read_buffer(buffer, campaign_id=campaign_id, return_df=False)
    return [row for row in rows if row["type"] == "workflow"]


def test_the_command_line_is_taken_as_torchtune_takes_it(
    buffer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "tiny.yaml"
    file.write_text("batch_size: 2\n")
    monkeypatch.setattr(sys, "argv", ["tune", "--config", str(file), "optimizer.lr=0.02"])

    @flowprov.recipe
    class Recipe:
        def __init__(self, cfg: Any) -> None: ...

    Recipe({"optimizer": {"lr": 0.02}, "batch_size": 2, "seed": 1})
    (workflow,) = [row for row in flowprov.read_buffer(return_df=False) if row["type"] == "workflow"]
    assert {leaf: one["origin"] for leaf, one in workflow["custom_metadata"]["config"].items()} == {
        "optimizer.lr": "override optimizer.lr=0.02",
        "batch_size": str(file),
        "seed": "code",
    }


@dataclass
class FullFinetuneParams:
    """What a recipe takes in place of a configuration of OmegaConf."""

    batch_size: int = 2
    lr: float = 0.01
    seed: int = 1


def test_a_leaf_that_nobody_set_comes_from_the_class_that_declares_it(
    buffer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.yaml").write_text("batch_size: 4\n")
    monkeypatch.setattr(sys, "argv", ["tune", "--config", "tiny.yaml", "lr=0.02"])

    @flowprov.recipe
    class Recipe:
        def __init__(self, params: FullFinetuneParams) -> None: ...

    Recipe(FullFinetuneParams(batch_size=4, lr=0.02))
    (workflow,) = [row for row in flowprov.read_buffer(return_df=False) if row["type"] == "workflow"]
    assert {leaf: one["origin"] for leaf, one in workflow["custom_metadata"]["config"].items()} == {
        "lr": "override lr=0.02",
        "batch_size": "tiny.yaml",
        "seed": "default FullFinetuneParams",
    }
