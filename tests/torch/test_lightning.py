"""Modules of Lightning under its Trainer: captured, they do the same, and every forward is recorded."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

import flowprov
from flowprov import records
from tests.torch.support import children, forwards, metadata, openings, paths
from tests.torch.third_party import load

lightning = load("pytorch_lightning")

pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning:pytorch_lightning"),
    pytest.mark.filterwarnings("ignore:.*LeafSpec.*"),
]

EPOCHS, BATCHES = 2, 3


class Regression(lightning.LightningModule):  # type: ignore[misc, name-defined]
    """A module as the first page of Lightning's documentation has them."""

    def __init__(self, width: int = 8, rate: float = 0.1) -> None:  # noqa: ARG002 - a hyperparameter
        super().__init__()
        self.save_hyperparameters()
        self.layers = torch.nn.Sequential(
            torch.nn.Linear(4, width), torch.nn.Dropout(), torch.nn.Linear(width, 1)
        )

    def forward(self, x: torch.Tensor) -> Any:
        """Compute."""
        return self.layers(x)

    def training_step(self, batch: Any, _: int) -> Any:
        """Compute the loss of a batch."""
        return torch.nn.functional.mse_loss(self(batch[0]), batch[1])

    def validation_step(self, batch: Any, index: int) -> None:
        """Log it."""
        self.log("loss", self.training_step(batch, index))

    def predict_step(self, batch: Any, _: int) -> Any:
        """Predict."""
        return self(batch[0])

    def configure_optimizers(self) -> Any:
        """Return the optimizer."""
        return torch.optim.Adam(self.parameters(), lr=self.hparams.rate)


def capture(target: Any) -> Any:
    return flowprov.torch_capture(
        target, what="parent_and_children", depth="all", children_mode="tensor_inspection"
    )


def data() -> Any:
    generator = torch.Generator().manual_seed(1)
    inputs, targets = (torch.randn(4 * BATCHES, size, generator=generator) for size in (4, 1))
    return torch.utils.data.DataLoader(torch.utils.data.TensorDataset(inputs, targets), batch_size=4)


def trainer(folder: Path, **options: Any) -> Any:
    return lightning.Trainer(
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        default_root_dir=folder,
        **{"max_epochs": EPOCHS, "enable_checkpointing": False, **options},
    )


def run(model: Any, folder: Path, **options: Any) -> list[Any]:
    """Fit, validate and predict; return all tensors that this left."""
    running = trainer(folder, **options)
    with flowprov.workflow("W"):
        running.fit(model, data(), data())
        validated = running.validate(model, data(), verbose=False)
        predicted = running.predict(model, data())
    states = running.optimizers[0].state_dict()["state"].values()
    steps = [tensor for state in states for tensor in state.values()]
    return [*model.parameters(), *steps, *predicted, torch.tensor(validated[0]["loss"])]


def build(cls: Any) -> Any:
    torch.manual_seed(0)
    return cls()


def check_equal(one: list[Any], other: list[Any]) -> None:
    assert all(torch.equal(*pair) for pair in zip(one, other, strict=True))


def check_recorded(buffer: Path) -> None:
    """Check that each forward is recorded, of the module and of its children."""
    validated = [False] * BATCHES
    found = forwards(buffer)
    assert [metadata(task)["is_training"] for task in found] == (
        ([True] * BATCHES + validated) * EPOCHS + validated + validated
    )
    assert {tuple(task.used or {}) for task in found} == {("x",)}
    assert {task.status for task in found} == {records.Status.FINISHED}
    assert {task.workflow_id for task in found} == {openings(buffer)[0].workflow_id}
    expected = ["layers", "layers.0", "layers.1", "layers.2"]
    assert Counter(paths(children(buffer))) == dict.fromkeys(expected, len(found))
    ids: dict[object, object] = {
        task.task_id: metadata(task)["module_path"] for task in [*found, *children(buffer)]
    }
    assert Counter(ids[task.parent_task_id] for task in children(buffer)) == {
        "": len(found),
        "layers": 3 * len(found),
    }


@pytest.mark.parametrize("decorated", [True, False])
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_training_is_the_same_and_every_forward_is_recorded(
    decorated: bool,  # noqa: FBT001
    precision: str,
    buffer: Path,
    tmp_path: Path,
) -> None:
    class Captured(Regression):
        pass

    if decorated:
        capture(Captured)
    model = build(Captured)
    assert decorated or capture(model) is model
    captured = run(model, tmp_path, precision=precision)
    check_recorded(buffer)
    expected = "bfloat16" if precision == "bf16-mixed" else None
    for task in forwards(buffer) + children(buffer):
        assert metadata(task).get("autocast_dtype") == expected
    check_equal(captured, run(build(Regression), tmp_path, precision=precision))


def test_checkpoints_are_the_same_and_load(buffer: Path, tmp_path: Path) -> None:
    class Captured(Regression):
        pass

    states = {}
    for cls in (Regression, capture(Captured)):
        keeps = lightning.callbacks.ModelCheckpoint(dirpath=tmp_path / cls.__name__, filename="last")
        run(build(cls), tmp_path, callbacks=[keeps], enable_checkpointing=True)
        states[cls] = torch.load(keeps.best_model_path, weights_only=True)
    check_recorded(buffer)
    plain, captured = states.values()
    check_equal(list(plain["state_dict"].values()), list(captured["state_dict"].values()))
    assert plain["hyper_parameters"] == captured["hyper_parameters"] == {"width": 8, "rate": 0.1}
    assert plain.keys() == captured.keys()
    assert b"flowprov" not in Path(keeps.best_model_path).read_bytes()

    before = len(forwards(buffer))
    for cls in (Regression, Captured):
        loaded = cls.load_from_checkpoint(keeps.best_model_path, rate=0.2)
        assert loaded.hparams == {"width": 8, "rate": 0.2}
        check_equal(list(loaded.state_dict().values()), list(plain["state_dict"].values()))
        with flowprov.workflow("W"):
            loaded(torch.ones(1, 4))
    assert len(forwards(buffer)) == before + 1


def test_training_goes_on_from_a_checkpoint(buffer: Path, tmp_path: Path) -> None:
    found = []
    for captured in (True, False):
        first, second = build(Regression), build(Regression)
        if captured:
            capture(first), capture(second)
        keeps = lightning.callbacks.ModelCheckpoint(dirpath=tmp_path / str(captured))
        with flowprov.workflow("W"):
            trainer(tmp_path, callbacks=[keeps], enable_checkpointing=True).fit(first, data())
            trainer(tmp_path, max_epochs=2 * EPOCHS).fit(second, data(), ckpt_path=keeps.best_model_path)
        found.append(list(second.parameters()))
    check_equal(*found)
    assert len(forwards(buffer)) == 2 * EPOCHS * BATCHES


@pytest.mark.parametrize("wrapped", ["module", "part"])
def test_steps_that_never_call_their_module_record_its_children(
    wrapped: str, buffer: Path, tmp_path: Path
) -> None:
    class Parts(Regression):
        def training_step(self, batch: Any, _: int) -> Any:
            return self.layers(batch[0]).square().mean()

    model = build(Parts)
    capture(model if wrapped == "module" else model.layers)
    with flowprov.workflow("W"):
        trainer(tmp_path).fit(model, data())
    steps = EPOCHS * BATCHES
    assert [task.activity_id for task in forwards(buffer)] == ["Sequential"] * (
        steps if wrapped == "part" else 0
    )
    found = [path.removeprefix("layers").removeprefix(".") for path in paths(children(buffer))]
    assert sorted(found) == sorted(["0", "1", "2", *([""] * (wrapped == "module"))] * steps)


@pytest.mark.parametrize("decorated", [(), ("Base",), ("Derived",), ("Base", "Derived")])
def test_hyperparameters_are_those_of_the_subclass_too(decorated: tuple[str, ...], buffer: Path) -> None:
    class Base(Regression):
        def __init__(self, width: int, **options: Any) -> None:
            super().__init__(width=width, **options)

    class Derived(Base):
        def __init__(self, factor: int = 2, **options: Any) -> None:
            super().__init__(4 * factor, **options)

    for cls in (Base, Derived):
        if cls.__name__ in decorated:
            flowprov.torch_capture(cls)
    options = {"custom_metadata": {"a": "note"}} if "Derived" in decorated else {}
    with flowprov.workflow("W"):
        model = Derived(factor=3, rate=0.3, **options)
        model(torch.ones(1, 4))
    # Lightning finds them by walking the stack, from the __init__ of Regression outwards.
    assert dict(model.hparams) == {"width": 12, "rate": 0.3, "factor": 3}
    assert len(forwards(buffer)) == bool(decorated)
