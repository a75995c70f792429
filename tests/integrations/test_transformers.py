"""``FlowprovCallback`` under the Trainer of transformers: the run is what the Trainer itself logs of it."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch

import flowprov
from tests.integrations.support import (
    DiedError,
    assert_no_fault,
    curves,
    logged,
    parents,
    run_of,
)
from tests.support import only
from tests.torch.third_party import load

transformers = load("transformers")

from flowprov.integrations.transformers import FlowprovCallback, register  # noqa: E402 - skipped without it

STEPS, PER_EPOCH, SAVED, DIED = 6, 4, 2, 4
SIZES = {
    "vocab_size": 16,
    "hidden_size": 8,
    "intermediate_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 1,
}
# What a second training takes as long as it likes.
TIMES = ("runtime", "per_second")


class Die(transformers.TrainerCallback):  # type: ignore[misc, name-defined]
    """Ends a training as a fault of the program does."""

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002
        """Raise in the middle of it."""
        if state.global_step == DIED:
            raise DiedError


def build(folder: Path, *callbacks: Any, captured: bool = False, **options: Any) -> Any:
    torch.manual_seed(0)
    model = transformers.BertForSequenceClassification(transformers.BertConfig(**SIZES))
    if captured:
        flowprov.torch_capture(model)
    examples = [
        {"input_ids": torch.arange(n, n + 4), "labels": torch.tensor(n % 2)} for n in range(2 * PER_EPOCH)
    ]
    arguments = transformers.TrainingArguments(
        **{
            "output_dir": str(folder),
            "max_steps": STEPS,
            "per_device_train_batch_size": 2,
            "logging_steps": 1,
            "eval_strategy": "steps",
            "eval_steps": 3,
            "save_steps": SAVED,
            "report_to": "none",
            "disable_tqdm": True,
            "use_cpu": True,
            **options,
        }
    )
    trainer = transformers.Trainer(
        model, arguments, train_dataset=examples, eval_dataset=examples[:2], callbacks=list(callbacks)
    )
    trainer.remove_callback(transformers.PrinterCallback)
    return trainer


def without_times(found: dict[tuple[str, int], float]) -> dict[tuple[str, int], float]:
    return {key: value for key, value in found.items() if not key[0].endswith(TIMES)}


def test_the_run_is_what_the_trainer_logs(buffer: Path, tmp_path: Path) -> None:
    followed = FlowprovCallback()
    trainer = build(tmp_path / "out", followed, captured=True, run_name="tuning")
    trainer.train()
    assert copy.deepcopy(followed).state()["attributes"] == {"workflow_id": None}
    run = run_of(buffer)
    assert (run["name"], run["status"], run["attempts"]) == ("tuning", "FINISHED", 1)
    assert (run["params.learning_rate"], run["params.model.hidden_size"]) == (5e-5, 8)
    assert "params.$cut" not in run
    assert curves(buffer, run["run_id"]) == logged(trainer.state.log_history)

    paths = parents(buffer)
    assert paths["epoch_iteration"] == ["", ""]
    assert paths["train_batch_iteration"] == ["epoch_iteration"] * STEPS
    forwards = paths["BertForSequenceClassification"]
    assert forwards.count("epoch_iteration/train_batch_iteration") == STEPS
    assert forwards.count("epoch_iteration") == 2  # evaluated between two batches
    saved = flowprov.artifacts(buffer).to_dict("records")
    assert [(one["role"], one["kind"], one["name"], one["step"]) for one in saved] == [
        ("generated", "checkpoint", f"checkpoint-{step}", step) for step in (2, 4, 6)
    ]
    assert_no_fault()


def test_a_training_that_died_and_its_second_attempt_are_one_run(buffer: Path, tmp_path: Path) -> None:
    with pytest.raises(DiedError):
        build(tmp_path / "out", FlowprovCallback(), Die()).train()
    second = build(tmp_path / "out", FlowprovCallback(), restore_callback_states_from_checkpoint=True)
    second.train(resume_from_checkpoint=True)
    second.evaluate(metric_key_prefix="end")
    whole = build(tmp_path / "whole")
    whole.train()

    run = run_of(buffer)
    assert (run["status"], run["attempts"]) == ("FINISHED", 2)
    found = curves(buffer, run["run_id"])
    assert without_times(found) == without_times(
        {**logged(whole.state.log_history), **logged(second.state.log_history)}
    )
    assert [found["loss", step] for step in range(1, STEPS + 1)] == [
        entry["loss"] for entry in whole.state.log_history if "loss" in entry
    ]
    first, later = flowprov.runs(buffer, attempts=True).to_dict("records")
    assert (first["status"], first["run_id"]) == ("ERROR", run["run_id"])
    used = only([one for one in flowprov.artifacts(buffer).to_dict("records") if one["role"] == "used"])
    assert (used["workflow_id"], Path(used["path"]).name) == (later["workflow_id"], f"checkpoint-{SAVED}")
    epochs = flowprov.metrics(buffer, run_id=run["run_id"], names=["loss"])["epoch"].tolist()
    assert epochs == [0, 0, 0, 0, 1, 1]
    assert_no_fault()


def test_report_to_joins_the_workflow_that_is_open(buffer: Path, tmp_path: Path) -> None:
    register()
    with flowprov.workflow("search") as search:
        # This checkpoint is written without the callback, which the next training looks for there.
        build(tmp_path / "out", max_steps=SAVED, eval_strategy="no").train()
        # The second callback, which is one too many, does nothing.
        trainer = build(tmp_path / "out", FlowprovCallback(), report_to="flowprov", eval_strategy="no")
        trainer.train(resume_from_checkpoint=True)
    run = run_of(buffer)
    assert (run["run_id"], run["name"]) == (search.workflow_id, "search")
    after = [entry for entry in trainer.state.log_history if entry["step"] > SAVED]
    assert curves(buffer, run["run_id"]) == logged(after)
    assert parents(buffer)["train_batch_iteration"] == ["epoch_iteration"] * (STEPS - SAVED)
    assert_no_fault()


def test_an_evaluation_without_a_training_is_a_run(buffer: Path, tmp_path: Path) -> None:
    trainer = build(tmp_path / "out", FlowprovCallback())
    measured = trainer.evaluate()
    predicted = trainer.predict(trainer.eval_dataset).metrics
    run = run_of(buffer)
    assert (run["name"], run["status"]) == ("evaluation", "FINISHED")
    assert run["metrics.eval_loss"] == measured["eval_loss"]
    assert run["metrics.test_loss"] == predicted["test_loss"]
    assert_no_fault()


def test_a_training_inside_another_one_belongs_to_it(buffer: Path, tmp_path: Path) -> None:
    class TrainAnother(transformers.TrainerCallback):  # type: ignore[misc, name-defined]
        def on_epoch_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002
            if state.global_step == PER_EPOCH:
                options: dict[str, Any] = {"max_steps": 1, "eval_strategy": "no", "save_strategy": "no"}
                build(tmp_path / "inner", FlowprovCallback(), **options).train()

    build(tmp_path / "out", FlowprovCallback(), TrainAnother(), save_strategy="no").train()
    run = run_of(buffer)
    assert (run["status"], run["name"]) == ("FINISHED", "training")
    assert parents(buffer)["epoch_iteration"] == ["epoch_iteration", "", ""]  # as they ended
    assert_no_fault()
