"""Adapters whose frameworks lie in an environment of their own: Ignite and skorch, on one small training."""

from __future__ import annotations

import json

import pytest

import flowprov
from tests.pipelines.conftest import Tools

pytestmark = pytest.mark.soak

_TRAINING = """
    import json, sys, warnings
    import numpy as np
    import torch
    import flowprov

    warnings.simplefilter("ignore")
    torch.manual_seed(0)
    inputs = torch.tensor([[1.0, 2.0], [3.0, -1.0], [0.5, 1.0], [2.0, 2.0]])
    targets = inputs.sum(1, keepdim=True)
    Model = flowprov.torch_capture(torch.nn.Linear)
"""

_IGNITE = (
    _TRAINING
    + """
    from ignite.engine import Events, create_supervised_evaluator, create_supervised_trainer
    from ignite.metrics import MeanSquaredError
    from flowprov.integrations.ignite import FlowprovHandler

    model = Model(2, 1)
    fails = "fail" in sys.argv

    def loss(output, target):
        if fails and trainer.state.iteration == 3:
            raise ZeroDivisionError("loss")
        return (output - target).square().mean()

    trainer = create_supervised_trainer(model, torch.optim.SGD(model.parameters(), lr=0.05), loss)
    evaluator = create_supervised_evaluator(model, metrics={"mse": MeanSquaredError()})
    losses, errors = [], []
    FlowprovHandler(lambda output: {"loss": output}).attach(trainer, validation=evaluator)

    @trainer.on(Events.ITERATION_COMPLETED)
    def note(engine): losses.append(engine.state.output)

    @trainer.on(Events.EPOCH_COMPLETED)
    def evaluate(engine):
        evaluator.run([(inputs, targets)])
        errors.append(evaluator.state.metrics["mse"])

    try:
        trainer.run([(inputs[:2], targets[:2]), (inputs[2:], targets[2:])], max_epochs=2)
    except ZeroDivisionError:
        print(json.dumps("passed on"))
    else:
        print(json.dumps({"loss": losses, "validation/mse": errors}))
"""
)

_SKORCH = (
    _TRAINING
    + """
    from skorch import NeuralNetRegressor
    from sklearn.base import clone
    from flowprov.integrations.skorch import FlowprovCallback

    net = NeuralNetRegressor(
        Model, module__in_features=2, module__out_features=1, max_epochs=3, batch_size=2, lr=0.05, verbose=0,
        train_split=None, callbacks=[FlowprovCallback()],
    )
    net.fit(inputs.numpy(), targets.numpy())
    if "again" in sys.argv:
        clone(net).fit(inputs.numpy(), targets.numpy())
    print(json.dumps({"train_loss": net.history[:, "train_loss"]}))
"""
)


def metrics(tools: Tools) -> dict[str, list[float]]:
    """Return the values of each metric."""
    found: dict[str, list[float]] = {}
    for name, value in flowprov.metrics(tools.folder / "flowprov_buffer")[["name", "value"]].to_numpy():
        found.setdefault(name, []).append(value)
    return found


def activities(tools: Tools) -> dict[str, int]:
    """Return how many tasks there are of each activity."""
    rows = flowprov.read_buffer(tools.folder / "flowprov_buffer", return_df=False)
    names = [row["activity_id"] for row in rows if row["type"] == "task"]
    return {name: names.count(name) for name in names}


def test_an_engine_of_ignite_is_a_run_with_its_epochs_batches_and_metrics(tools: Tools) -> None:
    told = json.loads(tools.python(_IGNITE))
    assert metrics(tools) == told
    assert activities(tools) == {
        "epoch_iteration": 2,
        "train_batch_iteration": 4,
        "eval_batch_iteration": 2,
        "Linear": 6,
    }
    assert [row["status"] for row in tools.workflows() if row["name"] == "training"] == ["FINISHED"]


def test_an_exception_passes_through_an_engine_and_ends_its_run(tools: Tools) -> None:
    assert json.loads(tools.python(_IGNITE, "fail")) == "passed on"
    assert [row["status"] for row in tools.workflows() if row["name"] == "training"] == ["ERROR"]


def test_a_fit_of_skorch_is_a_run_with_what_its_history_has(tools: Tools) -> None:
    told = json.loads(tools.python(_SKORCH))
    assert metrics(tools)["train_loss"] == told["train_loss"]
    assert activities(tools) == {"epoch_iteration": 3, "train_batch_iteration": 6, "Linear": 6}
    (fit,) = [row for row in tools.workflows() if row["name"] == "fit"]
    assert fit["used"]["max_epochs"] == 3
    assert fit["used"]["module__in_features"] == 2


def test_a_copy_of_a_net_is_a_run_of_its_own(tools: Tools) -> None:
    tools.python(_SKORCH, "again")
    assert [row["name"] for row in tools.workflows()].count("fit") == 2
