"""The extra ``skorch``: a net is followed."""

from __future__ import annotations

from flowprov.integrations.skorch import FlowprovCallback  # isort: skip - says what is missing

import skorch
import torch

from flowprov.read.sql_query import query_rows

net = skorch.NeuralNetRegressor(
    torch.nn.Linear,
    module__in_features=2,
    module__out_features=1,
    max_epochs=3,
    verbose=0,
    train_split=None,
    callbacks=[FlowprovCallback()],
)
net.fit(torch.ones(4, 2).numpy(), torch.ones(4, 1).numpy())
(run,) = query_rows("SELECT status FROM runs")[1]
losses = query_rows("SELECT value FROM metrics WHERE name = 'train_loss'")[1]
assert (run, len(losses)) == (("FINISHED",), 3), run
print(f"done: a training with skorch {skorch.__version__}")
