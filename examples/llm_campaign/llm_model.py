"""The model and its training: what one Dask task of the search does.

Flows in: hyperparameters and the files of the prepared data. Flows out: a checkpoint of the best epoch and a
dict of losses. flowprov adds three things to a plain training script: the decorator of the model, the loops
over epochs and batches with their `end_iter`, and the ids that are passed to the model.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import flowprov


class PositionalEncoding(nn.Module):
    """Adds the sines and cosines of its position to each embedding.

    Parameters
    ----------
    emsize, dropout
        The size of the embeddings, and the share of them that training drops.
    max_len
        The longest possible sequence.
    """

    encoding: Tensor

    def __init__(self, emsize: int, dropout: float, max_len: int) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        position = torch.arange(max_len).unsqueeze(1)
        frequency = torch.exp(torch.arange(0, emsize, 2) * (-math.log(10_000.0) / emsize))
        encoding = torch.zeros(max_len, 1, emsize)
        encoding[:, 0, 0::2] = torch.sin(position * frequency)
        encoding[:, 0, 1::2] = torch.cos(position * frequency)[:, : emsize // 2]
        self.register_buffer("encoding", encoding)

    def forward(self, embedded: Tensor) -> Tensor:
        """Return embeddings of shape (sequence, batch, emsize) with their positions added."""
        result: Tensor = self.dropout(embedded + self.encoding[: embedded.size(0)])
        return result


@flowprov.torch_capture
class TransformerModel(nn.Module):
    """A small causal language model.

    Parameters
    ----------
    ntokens
        The size of the vocabulary.
    emsize, nhead, nhid, nlayers, dropout
        The sizes of the encoder.
    pos_encoding_max_len
        The longest possible sequence.
    """

    def __init__(
        self,
        ntokens: int,
        emsize: int,
        nhead: int,
        nhid: int,
        nlayers: int,
        dropout: float = 0.1,
        pos_encoding_max_len: int = 512,
    ) -> None:
        super().__init__()
        self.scale = math.sqrt(emsize)
        self.embedding = nn.Embedding(ntokens, emsize)
        self.pos_encoder = PositionalEncoding(emsize, dropout, pos_encoding_max_len)
        layer = nn.TransformerEncoderLayer(emsize, nhead, nhid, dropout)
        self.encoder = nn.TransformerEncoder(layer, nlayers, enable_nested_tensor=False)
        self.decoder = nn.Linear(emsize, ntokens)

    def forward(self, src: Tensor) -> Tensor:
        """Predict the next token at every position.

        Parameters
        ----------
        src
            Token numbers, of shape (sequence, batch).

        Returns
        -------
        Tensor
            Logits, of shape (sequence, batch, ntokens).
        """
        mask = nn.Transformer.generate_square_subsequent_mask(src.size(0), device=src.device)
        embedded = self.pos_encoder(self.embedding(src) * self.scale)
        logits: Tensor = self.decoder(self.encoder(embedded, mask))
        return logits


def cut_batches(data: Tensor, bptt: int) -> list[tuple[Tensor, Tensor]]:
    """Return pairs of inputs and targets, cut from columns; the targets are one token ahead."""
    return [
        (data[start : min(start + bptt, len(data) - 1)], data[start + 1 : start + 1 + bptt])
        for start in range(0, len(data) - 1, bptt)
    ]


def next_token_loss(model: nn.Module, src: Tensor, targets: Tensor) -> Tensor:
    """Return the cross entropy of the predictions, the mean over all tokens."""
    logits = model(src)
    return nn.functional.cross_entropy(logits.reshape(-1, logits.size(-1)), targets.reshape(-1))


def train_epoch(
    model: nn.Module,
    data: Tensor,
    optimizer: torch.optim.Optimizer,
    bptt: int,
    epoch_loop: flowprov.EpochLoop[int] | None = None,
) -> float:
    """Train for one epoch and return the mean loss per token."""
    model.train()
    total = 0.0
    loop = flowprov.BatchLoop(cut_batches(data, bptt), epoch_loop=epoch_loop, step="train")
    for src, targets in loop:
        optimizer.zero_grad()
        loss = next_token_loss(model, src, targets)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        optimizer.step()
        total += loss.item() * targets.numel()
        loop.end_iter({"loss": loss.item()})
    return total / data[1:].numel()


def evaluate(
    model: nn.Module,
    data: Tensor,
    bptt: int,
    epoch_loop: flowprov.EpochLoop[int] | None = None,
    *,
    capture_enabled: bool = True,
) -> float:
    """Return the mean loss per token, without training."""
    model.eval()
    total = 0.0
    loop = flowprov.BatchLoop(
        cut_batches(data, bptt), epoch_loop=epoch_loop, step="eval", capture_enabled=capture_enabled
    )
    with torch.no_grad():
        for src, targets in loop:
            loss = next_token_loss(model, src, targets)
            total += loss.item() * targets.numel()
            loop.end_iter({"loss": loss.item()})
    return total / data[1:].numel()


def model_train(
    *,
    ntokens: int,
    train_path: str,
    valid_path: str,
    test_path: str,
    checkpoint_path: str,
    emsize: int,
    nhead: int,
    nhid: int,
    nlayers: int,
    dropout: float,
    pos_encoding_max_len: int,
    lr: float,
    optimizer: str,
    epochs: int,
    bptt: int,
    random_seed: int = 0,
    device: str = "cpu",
    threads: int = 1,
    capture_test: bool = False,
    workflow_id: str | None = None,
    campaign_id: str | None = None,
) -> dict[str, Any]:
    """Train one configuration, keep its best epoch and test it: the Dask task of the search.

    Returns
    -------
    dict
        ``task_id``, ``best_epoch``, ``best_val_loss``, ``train_losses``, ``val_losses`` (one for each epoch),
        ``test_loss`` and ``checkpoint_path``.
    """
    torch.set_num_threads(threads)
    torch.manual_seed(random_seed)
    train_data, valid_data, test_data = (
        torch.load(path, weights_only=True).to(device) for path in (train_path, valid_path, test_path)
    )
    architecture: dict[str, Any] = {
        "ntokens": ntokens,
        "emsize": emsize,
        "nhead": nhead,
        "nhid": nhid,
        "nlayers": nlayers,
        "dropout": dropout,
        "pos_encoding_max_len": pos_encoding_max_len,
    }
    parents: dict[str, Any] = {"parent_workflow_id": workflow_id, "campaign_id": campaign_id}
    model = TransformerModel(**architecture, **parents | {"get_profile": True}).to(device)
    optimizers = {"adam": torch.optim.Adam, "sgd": torch.optim.SGD}
    solver = optimizers[optimizer](model.parameters(), lr=lr)
    history = fit(model, solver, train_data, valid_data, bptt, epochs, Path(checkpoint_path), architecture)

    task = flowprov.current_task()  # None if nothing is recorded
    task_id = task.task_id if task is not None else None
    if capture_test:
        parents["parent_task_id"] = task_id
    test_loss = evaluate_checkpoint(
        checkpoint_path, test_data, bptt, capture_enabled=capture_test, parents=parents
    )
    return {"task_id": task_id, **history, "test_loss": test_loss, "checkpoint_path": checkpoint_path}


def fit(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    train_data: Tensor,
    valid_data: Tensor,
    bptt: int,
    epochs: int,
    checkpoint: Path,
    architecture: dict[str, Any],
) -> dict[str, Any]:
    """Train for some epochs and save the best one; return its number and the losses of all epochs."""
    train_losses: list[float] = []
    val_losses: list[float] = []
    best_epoch, best_val_loss = 0, math.inf
    loop = flowprov.EpochLoop(range(1, epochs + 1), model=model)
    for epoch in loop:
        # Rounded once, so that what is printed, recorded and returned is the same number.
        train_loss = round(train_epoch(model, train_data, optimizer, bptt, loop), 6)
        val_loss = round(evaluate(model, valid_data, bptt, loop), 6)
        print(
            f"{checkpoint.stem} epoch {epoch} train_loss {train_loss:.6f} val_loss {val_loss:.6f}", flush=True
        )
        if epoch == 1 or val_loss < best_val_loss:
            best_epoch, best_val_loss = epoch, val_loss
            save_checkpoint(checkpoint, model, architecture, epoch, val_loss)
        train_losses.append(train_loss)
        val_losses.append(val_loss)
        loop.end_iter({"train_loss": train_loss, "val_loss": val_loss})
    return {
        "best_epoch": best_epoch,
        "best_val_loss": best_val_loss,
        "train_losses": train_losses,
        "val_losses": val_losses,
    }


def save_checkpoint(
    path: Path, model: nn.Module, architecture: dict[str, Any], epoch: int, val_loss: float
) -> None:
    """Write weights and architecture to a file that `evaluate_checkpoint` can read."""
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(
        {
            "architecture": architecture,
            "weights": model.state_dict(),
            "epoch": epoch,
            "val_loss": val_loss,
        },
        path,
    )


def evaluate_checkpoint(
    path: str, data: Tensor, bptt: int, *, capture_enabled: bool, parents: dict[str, Any]
) -> float:
    """Return the mean loss per token of a saved model; record it only on request."""
    saved = torch.load(path, weights_only=True, map_location=data.device)
    model = TransformerModel(**saved["architecture"], **parents | {"capture_enabled": capture_enabled})
    model.load_state_dict(saved["weights"])
    # The batches of the test have no records of their own. Its forwards are under the task itself.
    return round(evaluate(model.to(data.device), data, bptt, capture_enabled=False), 6)
