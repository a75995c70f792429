"""The same small training through every adapter: each of them records the same losses, once."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import flowprov
from tests.integrations.support import assert_no_fault
from tests.torch.third_party import load

accelerate, lightning, optuna, transformers = map(
    load, ("accelerate", "pytorch_lightning", "optuna", "transformers")
)
optuna.logging.set_verbosity(optuna.logging.ERROR)

from flowprov.integrations.accelerate import FlowprovTracker  # noqa: E402 - skipped without it
from flowprov.integrations.lightning import FlowprovLogger  # noqa: E402
from flowprov.integrations.optuna import FlowprovCallback as OptunaCallback  # noqa: E402
from flowprov.integrations.torchtune import FlowprovLogger as TorchtuneLogger  # noqa: E402
from flowprov.integrations.transformers import FlowprovCallback as TrainerCallback  # noqa: E402

STEPS, RATE = 4, 0.05
INPUTS = torch.tensor([[1.0, 2.0], [3.0, -1.0]])
TARGETS = torch.tensor([[1.0], [0.0]])


def squared_error(output: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return (output - targets).square().mean()


def build() -> tuple[torch.nn.Linear, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = torch.nn.Linear(2, 1)
    return model, torch.optim.SGD(model.parameters(), lr=RATE)


def losses_by_hand(log: Callable[[float, int], Any]) -> float:
    """Train, and hand over each loss with its step; return the last one."""
    model, optimizer = build()
    last = 0.0
    for step in range(STEPS):
        loss = squared_error(model(INPUTS), TARGETS)
        torch.autograd.backward(loss)
        optimizer.step()
        optimizer.zero_grad()
        last = loss.item()
        log(last, step)
    return last


def by_hand(_: Path) -> None:
    with flowprov.workflow("by hand"):
        losses_by_hand(lambda loss, step: flowprov.log_metrics(loss=loss, step=step))


def by_torchtune(_: Path) -> None:
    logger = TorchtuneLogger()
    losses_by_hand(lambda loss, step: logger.log_dict({"loss": loss}, step=step))
    logger.close()


def by_optuna(_: Path) -> None:
    study = optuna.create_study()
    callback = OptunaCallback()

    def objective(trial: Any) -> float:
        return losses_by_hand(trial.report)

    study.optimize(objective, n_trials=1, callbacks=[callback])


def by_accelerate(_: Path) -> None:
    accelerator = accelerate.Accelerator(cpu=True, log_with=FlowprovTracker())
    accelerator.init_trackers("project")
    model, optimizer = accelerator.prepare(*build())
    for step in range(STEPS):
        loss = squared_error(model(INPUTS), TARGETS)
        accelerator.backward(loss)
        optimizer.step()
        optimizer.zero_grad()
        accelerator.log({"loss": loss.item()}, step=step)
    accelerator.end_training()


class Module(lightning.LightningModule):  # type: ignore[misc, name-defined]
    """The model, as Lightning takes it."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.optimizer = build()

    def training_step(self, batch: Any, _: int) -> Any:
        """Compute the loss of a batch."""
        loss = squared_error(self.layer(batch[0]), batch[1])
        self.log("loss", loss)
        return loss

    def configure_optimizers(self) -> Any:
        """Return the optimizer."""
        return self.optimizer


def by_lightning(folder: Path) -> None:
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(INPUTS, TARGETS), batch_size=2)
    lightning.Trainer(
        accelerator="cpu",
        max_epochs=STEPS,
        log_every_n_steps=1,
        logger=FlowprovLogger(),
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        default_root_dir=folder,
    ).fit(Module(), loader)


class Model(torch.nn.Module):
    """The model, as the Trainer takes it."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.optimizer = build()

    def forward(self, x: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        """Compute the loss of a batch."""
        return {"loss": squared_error(self.layer(x), labels)}


def by_transformers(folder: Path) -> None:
    model = Model()
    arguments = transformers.TrainingArguments(
        output_dir=str(folder),
        max_steps=STEPS,
        per_device_train_batch_size=2,
        logging_steps=1,
        max_grad_norm=0,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        use_cpu=True,
    )
    constant = torch.optim.lr_scheduler.LambdaLR(model.optimizer, lambda _: 1.0)
    examples = [{"x": x, "labels": target} for x, target in zip(INPUTS, TARGETS, strict=True)]
    trainer = transformers.Trainer(
        model,
        arguments,
        train_dataset=examples,
        optimizers=(model.optimizer, constant),
        callbacks=[TrainerCallback()],
    )
    trainer.remove_callback(transformers.PrinterCallback)
    trainer.train()


WAYS = {
    "by hand": by_hand,
    "transformers": by_transformers,
    "lightning": by_lightning,
    "accelerate": by_accelerate,
    "torchtune": by_torchtune,
    "optuna": by_optuna,
}


def test_every_adapter_records_the_same_losses(buffer: Path, tmp_path: Path) -> None:
    table: dict[str, list[float]] = {}
    for way, train in WAYS.items():
        with flowprov.campaign(way) as campaign, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of frameworks, on trainings as small as this
            train(tmp_path / way)
        frame = flowprov.metrics(buffer, campaign_id=campaign.campaign_id)
        assert frame["run_id"].nunique() == 1
        of_loss = frame[frame["name"].isin(["loss", "intermediate_value"])]
        table[way] = of_loss.sort_values("step")["value"].tolist()
    assert len(table["by hand"]) == STEPS
    assert table == dict.fromkeys(WAYS, pytest.approx(table["by hand"]))
    assert_no_fault()
