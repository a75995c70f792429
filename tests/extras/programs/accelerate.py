"""The extra ``accelerate``: a tracker of an Accelerator."""

from __future__ import annotations

from flowprov.integrations.accelerate import FlowprovTracker  # isort: skip - says what is missing

import accelerate
import torch

from flowprov.read.sql_query import query_rows

accelerator = accelerate.Accelerator(cpu=True, log_with=FlowprovTracker())
accelerator.init_trackers("project", config={"lr": 0.1})
model = accelerator.prepare(torch.nn.Linear(2, 1))
for step in range(3):
    accelerator.log({"loss": model(torch.ones(1, 2)).square().item()}, step=step)
accelerator.end_training()
(run,) = query_rows('SELECT status, "params.lr" FROM runs')[1]
losses = query_rows("SELECT value FROM metrics")[1]
assert (run, len(losses)) == (("FINISHED", 0.1), 3), run
print(f"done: a run with accelerate {accelerate.__version__}")
