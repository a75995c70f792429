"""The extra ``lightning``: its Trainer is followed."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from flowprov.integrations.lightning import FlowprovCallback, FlowprovLogger  # isort: skip - says what is missing

import pytorch_lightning
import torch

from flowprov.read.sql_query import query_rows


class _Module(pytorch_lightning.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(2, 1)

    def training_step(self, batch: Any, _: int) -> Any:
        loss = self.layer(batch).square().mean()
        self.log("loss", loss)
        return loss

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1)


trainer = pytorch_lightning.Trainer(
    max_epochs=2,
    accelerator="cpu",
    logger=FlowprovLogger(),
    callbacks=[FlowprovCallback()],
    log_every_n_steps=1,
    enable_progress_bar=False,
    enable_checkpointing=False,
)
batches: Any = list(torch.ones(4, 2))
trainer.fit(_Module(), torch.utils.data.DataLoader(batches, batch_size=2))
(run,) = query_rows("SELECT status FROM runs")[1]
losses = query_rows("SELECT value FROM metrics WHERE name = 'loss'")[1]
assert (run, len(losses)) == (("FINISHED",), 4), run
print(f"done: a training with Lightning {version('pytorch-lightning')}")
