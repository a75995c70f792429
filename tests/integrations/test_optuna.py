"""``FlowprovCallback`` for Optuna: a trial is a run, with what the study itself holds of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import flowprov
from tests.integrations.support import assert_no_fault, curves
from tests.support import tasks
from tests.torch.third_party import load

optuna = load("optuna")
optuna.logging.set_verbosity(optuna.logging.ERROR)

from flowprov.integrations.optuna import FlowprovCallback  # noqa: E402 - skipped without it

TRIALS, PRUNED, FAILED = 4, 1, 2


def objective(trial: Any) -> float:
    x: float = trial.suggest_float("x", -1, 1)
    loop = flowprov.EpochLoop(2)
    for epoch in loop:
        trial.report(x * x + epoch, epoch)
        loop.end_iter(loss=x * x + epoch)
        if trial.number == PRUNED:
            raise optuna.TrialPruned
    if trial.number == FAILED:
        raise ValueError("no such model")
    return x * x


@pytest.mark.parametrize("tracked", [True, False])
def test_a_trial_is_a_run_as_the_study_holds_it(tracked: bool, buffer: Path) -> None:  # noqa: FBT001
    callback = FlowprovCallback()
    study = optuna.create_study(study_name="study", sampler=optuna.samplers.RandomSampler(seed=0))
    with flowprov.workflow("search") as search:
        study.optimize(
            callback.track(objective) if tracked else objective,
            n_trials=TRIALS,
            callbacks=[callback],
            catch=(ValueError,),
        )
    rows = flowprov.runs(buffer)
    runs = rows[rows["name"] == "trial"].to_dict("records")
    assert [run["status"] for run in runs] == ["FINISHED", "FINISHED", "ERROR", "FINISHED"]
    error = "ValueError: no such model" if tracked else "Exception: the trial failed"
    assert [run["error"] for run in runs if run["status"] == "ERROR"] == [error]
    for run, trial in zip(runs, study.trials, strict=True):
        assert run["params.x"] == trial.params["x"]
        found = curves(buffer, run["run_id"])
        assert {step: value for (name, step), value in found.items() if name == "intermediate_value"} == (
            trial.intermediate_values
        )
        assert [value for (name, _), value in found.items() if name == "value"] == (trial.values or [])
        # What the objective records belongs to its trial if it is tracked.
        assert bool([1 for name, _ in found if name == "loss"]) is tracked
    workflows = [row for row in flowprov.read_buffer(buffer, return_df=False) if row["name"] == "trial"]
    assert {row["parent_workflow_id"] for row in workflows} == {search.workflow_id}
    ended = [row["custom_metadata"].get("ended_by") for row in workflows]
    assert ended == [None, "optuna.exceptions.TrialPruned", None, None]
    assert [row["custom_metadata"]["optuna"]["state"] for row in workflows] == [
        trial.state.name for trial in study.trials
    ]
    assert {task.status for task in tasks(buffer)} == {"FINISHED"}
    assert_no_fault()
