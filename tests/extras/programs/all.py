"""The extra ``all``: every part of flowprov that is no adapter can be imported, and a campaign is read."""

from __future__ import annotations

import importlib
import pkgutil

import flowprov

with flowprov.workflow("W"):
    flowprov.log_metrics(loss=0.5, step=0)

NEEDS_MORE = ("flowprov.integrations.", "flowprov.export.mlflow", "flowprov.imports.mlflow")
NOT_HERE = ("flowprov.telemetry.gpu.amd", "flowprov.__main__")  # one needs a driver, one is the command
names = [
    module.name
    for module in pkgutil.walk_packages(flowprov.__path__, "flowprov.")
    if not module.name.startswith((*NEEDS_MORE, *NOT_HERE))
]
for name in names:
    importlib.import_module(name)
assert flowprov.runs()["metrics.loss"].tolist() == [0.5]
print(f"done: {len(names)} modules imported")
