"""Train a tiny language model by a recipe in the shape of torchtune's, which is recorded by one line.

python train.py --config tiny.yaml [key=value ...]
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf
from torch import nn
from torch.utils.checkpoint import checkpoint

import flowprov


class TinyModel(nn.Module):
    """A transformer that predicts the next byte."""

    def __init__(self, dim: int, heads: int, layers: int, context: int, *, checkpointing: bool) -> None:
        super().__init__()
        self.checkpointing = checkpointing
        self.tokens = nn.Embedding(256, dim)
        self.positions = nn.Embedding(context, dim)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(dim, heads, 4 * dim, dropout=0.0, batch_first=True)
            for _ in range(layers)
        )
        self.head = nn.Linear(dim, 256)

    def forward(self, text: torch.Tensor) -> torch.Tensor:
        """Return a score for each byte that may follow."""
        mask = nn.Transformer.generate_square_subsequent_mask(text.shape[1])
        hidden = self.tokens(text) + self.positions.weight[: text.shape[1]]
        for layer in self.layers:
            if self.checkpointing:
                hidden = checkpoint(layer, hidden, mask, use_reentrant=False)
            else:
                hidden = layer(hidden, mask)
        scores: torch.Tensor = self.head(hidden)
        return scores


@flowprov.recipe
class TinyFinetuneRecipe:
    """The phases of a training, as torchtune's recipes have them."""

    def __init__(self, cfg: Any) -> None:
        self.seed = cfg.seed
        self.epochs_run = 0
        self.total_epochs = cfg.epochs
        self.global_step = 0
        self.max_steps_per_epoch = cfg.max_steps_per_epoch
        self._output_dir = Path(cfg.checkpointer.output_dir)

    def load_checkpoint(self, cfg: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """Read the weights, and how far the training had come."""
        folder = Path(cfg.checkpoint_dir)
        weights = torch.load(folder / cfg.checkpoint_files[0], weights_only=True)
        return weights, torch.load(folder / cfg.recipe_checkpoint, weights_only=True)

    def setup(self, cfg: Any) -> None:
        """Build the model, and take up the state of an earlier attempt."""
        torch.manual_seed(self.seed)
        model = TinyModel(**cfg.model, checkpointing=cfg.enable_activation_checkpointing)
        self._model = flowprov.torch_capture(model)
        self._optimizer = torch.optim.AdamW(self._model.parameters(), **cfg.optimizer)
        if cfg.resume_from_checkpoint:
            weights, state = self.load_checkpoint(cfg.checkpointer)
            self._model.load_state_dict(weights)
            self._optimizer.load_state_dict(state["optimizer"])
            self.epochs_run, self.global_step = state["epochs_run"], state["global_step"]
        flowprov.use_artifact(cfg.data, kind="dataset")
        self._text = torch.frombuffer(bytearray(Path(cfg.data).read_bytes()), dtype=torch.uint8).long()
        self._batch, self._context = cfg.batch_size, cfg.model.context
        self._accumulation, self._kill_at = cfg.gradient_accumulation_steps, cfg.kill_at_step

    def train(self) -> None:
        """Train, and save a checkpoint after each epoch."""
        for epoch in flowprov.EpochLoop(range(self.epochs_run, self.total_epochs)):
            for _ in range(self.max_steps_per_epoch):
                loss = self._step()
                self.global_step += 1
                flowprov.log_metrics(loss=loss, step=self.global_step)
                print(f"epoch {epoch}, step {self.global_step}, loss {loss:.4f}")
                if self.global_step == self._kill_at:
                    os.kill(os.getpid(), signal.SIGKILL)
            self.epochs_run += 1
            self.save_checkpoint(epoch=epoch)

    def _step(self) -> torch.Tensor:
        """Do one step of the optimizer, over the gradients of several batches."""
        order = torch.Generator().manual_seed(self.seed + self.global_step)  # the same in each attempt
        self._optimizer.zero_grad()
        total = torch.zeros(())
        for _ in range(self._accumulation):
            starts = torch.randint(len(self._text) - self._context - 1, (self._batch,), generator=order)
            text = torch.stack([self._text[start : start + self._context + 1] for start in starts])
            scores = self._model(text[:, :-1])
            loss = nn.functional.cross_entropy(scores.flatten(0, 1), text[:, 1:].flatten())
            (loss / self._accumulation).backward()
            total += loss.detach() / self._accumulation
        self._optimizer.step()
        return total

    def save_checkpoint(self, epoch: int) -> None:
        """Write the weights, and beside them what a later attempt needs."""
        folder = self._output_dir / f"epoch_{epoch}"
        folder.mkdir(parents=True, exist_ok=True)
        torch.save(self._model.state_dict(), folder / "model.pt")
        state = {
            "optimizer": self._optimizer.state_dict(),
            "epochs_run": self.epochs_run,
            "global_step": self.global_step,
        }
        torch.save(state, folder / "recipe_state.pt")

    def cleanup(self) -> None:
        """Do nothing: one process has nothing to leave."""


def main() -> None:
    """Read the configuration, and drive the recipe."""
    option, file, *overrides = sys.argv[1:]
    if option != "--config":
        sys.exit("usage: python train.py --config tiny.yaml [key=value ...]")
    cfg = OmegaConf.merge(OmegaConf.load(file), OmegaConf.from_dotlist(overrides))
    recipe = TinyFinetuneRecipe(cfg=cfg)
    recipe.setup(cfg=cfg)
    recipe.train()
    recipe.cleanup()


if __name__ == "__main__":
    main()
