"""The extra ``mlflow``: a campaign becomes an experiment in a database."""

from __future__ import annotations

import subprocess
import sys

import flowprov

with flowprov.campaign("C"), flowprov.workflow("W", used={"lr": 0.1}):
    flowprov.log_metrics(loss=0.5, step=0)
uri = "sqlite:///mlruns.db"
exported = subprocess.run([sys.executable, "-m", "flowprov", "export", "mlflow", "--uri", uri], check=False)
if exported.returncode:
    sys.exit(exported.returncode)

import mlflow  # noqa: E402 - after flowprov said what is missing

client = mlflow.MlflowClient(uri)
(experiment,) = [one for one in client.search_experiments() if one.name == "C"]
runs = client.search_runs([experiment.experiment_id])
assert any(run.data.params.get("lr") == "0.1" for run in runs), runs
print(f"done: {len(runs)} runs of MLflow {mlflow.__version__}")
