"""``FlowprovLogger`` and ``FlowprovCallback`` under Lightning's Trainer: the run is what CSVLogger writes."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

import flowprov
from flowprov import guard
from tests.integrations.support import (
    Curves,
    DiedError,
    assert_no_fault,
    curves,
    logged,
    parents,
    run_of,
)
from tests.support import only, tasks
from tests.torch.third_party import load

lightning = load("pytorch_lightning")

from flowprov.integrations.lightning import FlowprovCallback, FlowprovLogger  # noqa: E402 - skipped without it

pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning:pytorch_lightning"),
    pytest.mark.filterwarnings("ignore:.*LeafSpec.*"),
]

EPOCHS, BATCHES, CHECKED = 2, 3, 2
SAVED, DIED = 4, 5


class Regression(lightning.LightningModule):  # type: ignore[misc, name-defined]
    """A module that logs in each of its steps."""

    def __init__(self, rate: float = 0.1) -> None:  # noqa: ARG002 - a hyperparameter
        super().__init__()
        self.save_hyperparameters()
        self.layer = torch.nn.Linear(4, 1)
        self.dies_at: int | None = None

    def forward(self, x: torch.Tensor) -> Any:
        """Compute."""
        return self.layer(x)

    def loss(self, name: str, batch: Any, **options: Any) -> Any:
        """Compute the loss of a batch, and log it."""
        loss = (self(batch[0]) - batch[1]).square().mean()
        self.log(name, loss, **options)
        return loss

    def training_step(self, batch: Any, _: int) -> Any:
        """Train."""
        if self.global_step == self.dies_at:
            raise DiedError
        return self.loss("loss", batch, on_step=True, on_epoch=True)

    def validation_step(self, batch: Any, batch_idx: int) -> None:  # noqa: ARG002 - as Lightning calls it
        """Validate."""
        self.loss("val_loss", batch)

    def test_step(self, batch: Any, batch_idx: int) -> None:  # noqa: ARG002 - as Lightning calls it
        """Test."""
        self.loss("test_loss", batch)

    def configure_optimizers(self) -> Any:
        """Return the optimizer."""
        return torch.optim.SGD(self.parameters(), lr=self.hparams.rate)


def data() -> Any:
    generator = torch.Generator().manual_seed(1)
    tensors = [torch.randn(4 * BATCHES, size, generator=generator) for size in (4, 1)]
    return torch.utils.data.DataLoader(torch.utils.data.TensorDataset(*tensors), batch_size=4)


def build(folder: Path, *, dies_at: int | None = None) -> tuple[Any, Any]:
    """Return a Trainer and a module."""
    torch.manual_seed(0)
    module = Regression()
    module.dies_at = dies_at
    keeps = lightning.callbacks.ModelCheckpoint(
        dirpath=folder / "checkpoints",
        filename="{step}",
        every_n_train_steps=2,
        save_top_k=-1,
        save_on_exception=True,
    )
    trainer = lightning.Trainer(
        accelerator="cpu",
        max_epochs=EPOCHS,
        log_every_n_steps=1,
        num_sanity_val_steps=CHECKED,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
        logger=[lightning.loggers.CSVLogger(folder, name="csv", version=0), FlowprovLogger()],
        callbacks=[FlowprovCallback(), keeps],
    )
    return trainer, flowprov.torch_capture(module)


def csv_of(folder: Path) -> Curves:
    with (folder / "csv" / "version_0" / "metrics.csv").open() as file:
        return logged(csv.DictReader(file))


def test_the_run_is_what_the_csv_logger_writes(buffer: Path, tmp_path: Path) -> None:
    trainer, module = build(tmp_path)
    trainer.fit(module, data(), data())
    run = run_of(buffer)
    assert (run["name"], run["status"], run["params.rate"]) == ("fit", "FINISHED", 0.1)
    assert curves(buffer, run["run_id"]) == csv_of(tmp_path)

    paths = parents(buffer)
    assert paths["epoch_iteration"] == [""] * EPOCHS
    assert paths["train_batch_iteration"] == ["epoch_iteration"] * BATCHES * EPOCHS
    assert paths["eval_batch_iteration"] == [""] * CHECKED + ["epoch_iteration"] * BATCHES * EPOCHS
    assert sorted(paths["Regression"]) == sorted(
        ["eval_batch_iteration"] * CHECKED
        + ["epoch_iteration/train_batch_iteration"] * BATCHES * EPOCHS
        + ["epoch_iteration/eval_batch_iteration"] * BATCHES * EPOCHS
    )
    checked = [task for task in tasks(buffer) if (task.custom_metadata or {}).get("sanity_check")]
    assert [task.activity_id for task in checked] == ["eval_batch_iteration"] * CHECKED
    saved = flowprov.artifacts(buffer)
    assert saved["step"].tolist() == [2, 4, 6]
    assert saved["epoch"].tolist() == [0, 1, 1]

    with flowprov.workflow("afterwards"):
        trainer.test(module, data(), ckpt_path=saved["path"].iloc[-1], verbose=False)
    after = flowprov.runs(buffer).to_dict("records")[-1]
    assert (after["name"], set(flowprov.metrics(buffer, run_id=after["run_id"])["name"])) == (
        "afterwards",
        {"epoch", "test_loss"},
    )
    assert parents(buffer)["test_batch_iteration"] == [""] * BATCHES
    used = only([one for one in flowprov.artifacts(buffer).to_dict("records") if one["role"] == "used"])
    assert used["workflow_id"] == after["workflow_id"]
    assert_no_fault()


def test_a_training_that_died_and_its_second_attempt_are_one_run(buffer: Path, tmp_path: Path) -> None:
    trainer, module = build(tmp_path / "first", dies_at=DIED)
    with pytest.raises(DiedError):
        trainer.fit(module, data(), data())
    checkpoint = tmp_path / "moved.ckpt"
    shutil.copy(tmp_path / "first" / "checkpoints" / f"step={SAVED}.ckpt", checkpoint)
    trainer, module = build(tmp_path / "second")
    trainer.fit(module, data(), data(), ckpt_path=checkpoint)

    run = run_of(buffer)
    assert (run["status"], run["attempts"]) == ("FINISHED", 2)
    found = curves(buffer, run["run_id"])
    assert found == {**csv_of(tmp_path / "first"), **csv_of(tmp_path / "second")}
    assert [step for name, step in found if name == "loss_step"] == list(range(BATCHES * EPOCHS))
    first, later = flowprov.runs(buffer, attempts=True).to_dict("records")
    assert (first["status"], first["error"]) == ("ERROR", "tests.integrations.support.DiedError")
    files = flowprov.artifacts(buffer).to_dict("records")
    used = only([one for one in files if one["role"] == "used"])
    assert used["workflow_id"] == later["workflow_id"]
    saved = [(one["step"], one["workflow_id"]) for one in files if one["role"] == "generated"]
    assert (DIED, first["workflow_id"]) in saved  # on the exception itself
    failed = [task.activity_id for task in tasks(buffer) if task.status == "ERROR"]
    assert sorted(map(str, failed)) == ["epoch_iteration", "train_batch_iteration"]
    assert_no_fault()


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_what_the_tuner_tries_is_a_run_of_that_name(buffer: Path, tmp_path: Path) -> None:
    trainer, module = build(tmp_path)
    lightning.tuner.Tuner(trainer).lr_find(module, data(), num_training=2, attr_name="rate")
    trainer.fit(module, data(), data())
    trainer.loggers[1].log_hyperparams({"note": "between"})  # by hand: this begins the next run
    trainer.validate(module, data(), verbose=False)
    runs = flowprov.runs(buffer)
    names = runs[["name", "status"]].to_numpy().tolist()
    assert names == [["tune", "FINISHED"], ["fit", "FINISHED"], ["lightning", "FINISHED"]]
    assert_no_fault()


def test_the_logger_alone_records_a_run_and_a_fault_of_ours_passes_by(buffer: Path, tmp_path: Path) -> None:
    logger = FlowprovLogger()
    trainer = lightning.Trainer(
        accelerator="cpu",
        max_epochs=1,
        logger=[logger, lightning.loggers.CSVLogger(tmp_path, name="csv", version=0)],
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
    )
    module = Regression()
    trainer.fit(module, data(), data())
    run = run_of(buffer)
    assert (run["name"], run["status"], logger.version) == ("lightning", "FINISHED", run["run_id"])
    assert curves(buffer, run["run_id"]) == csv_of(tmp_path)
    assert_no_fault()

    logger.log_hyperparams(3)  # nothing has such hyperparameters
    assert [key for key in guard.internal_errors() if "log_hyperparams" in key]
    logger.finalize("success")
