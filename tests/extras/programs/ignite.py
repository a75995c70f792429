"""The extra ``ignite``: an engine is followed."""

from __future__ import annotations

from flowprov.integrations.ignite import FlowprovHandler  # isort: skip - says what is missing

import ignite
import torch
from ignite.engine import create_supervised_trainer

from flowprov.read.sql_query import query_rows

model = torch.nn.Linear(2, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
trainer = create_supervised_trainer(model, optimizer, torch.nn.MSELoss())
FlowprovHandler(lambda output: {"loss": output}).attach(trainer)
trainer.run([(torch.ones(2, 2), torch.ones(2, 1))] * 2, max_epochs=2)
(run,) = query_rows("SELECT status FROM runs")[1]
losses = query_rows("SELECT value FROM metrics")[1]
assert (run, len(losses)) == (("FINISHED",), 4), run
print(f"done: a training with Ignite {ignite.__version__}")
