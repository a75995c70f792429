"""The extra ``optuna``: trials are runs."""

from __future__ import annotations

from flowprov.integrations.optuna import FlowprovCallback  # isort: skip - says what is missing

import optuna

import flowprov
from flowprov.read.sql_query import query_rows

with flowprov.workflow("search"):
    study = optuna.create_study()
    study.optimize(
        lambda trial: trial.suggest_float("x", -1, 1) ** 2, n_trials=3, callbacks=[FlowprovCallback()]
    )
trials = query_rows("SELECT \"params.x\" FROM runs WHERE name = 'trial'")[1]
assert trials == [(trial.params["x"],) for trial in study.trials]
print(f"done: {len(trials)} trials of Optuna {optuna.__version__}")
