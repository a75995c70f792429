"""The steps of the pipeline: clean the reviews, train a classifier. Dagster runs them, or a plain loop.

Each step is a workflow. Files that it reads and writes are artifacts.
"""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional

import flowprov

DATA = Path("data")
RAW, CLEANED = DATA / "raw.csv", DATA / "cleaned.csv"
CHECKPOINTS = Path("checkpoints")
_LABELS = ("bad", "good")


def clean(*, commit: bool) -> None:
    """Remove duplicates and reviews without words; give the data a new version if it changed."""
    with flowprov.workflow("DATA_CLEANING", used={"lower_case": True}) as workflow:
        flowprov.use_artifact(RAW, kind="dataset")
        with RAW.open(newline="") as file:
            rows = {(row["text"].strip().lower(), row["label"]) for row in csv.DictReader(file)}
        kept = sorted(row for row in rows if row[0])
        with CLEANED.open("w", newline="") as file:
            csv.writer(file).writerows([("text", "label"), *kept])
        flowprov.log_artifact(CLEANED, kind="dataset").wait()
        workflow.set_generated(rows=len(kept))
        if commit:
            flowprov.data_commit(DATA, message="Clean the reviews")


def train() -> str:
    """Train on the cleaned reviews; return the checkpoint of the best epoch."""
    parameters = json.loads(Path("training.json").read_text())
    with flowprov.workflow("TRAINING", used=parameters) as workflow:
        flowprov.use_artifact(CLEANED, kind="dataset")
        inputs, labels, words = _tensors()
        torch.manual_seed(parameters["seed"])
        model = torch.nn.Linear(len(words), len(_LABELS))
        optimizer = torch.optim.SGD(model.parameters(), lr=parameters["lr"])
        losses: dict[str, float] = {}
        for epoch in (loop := flowprov.EpochLoop(parameters["epochs"])):
            optimizer.zero_grad()
            scores = model(inputs)
            loss = functional.cross_entropy(scores, labels)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            path = CHECKPOINTS / f"lr{parameters['lr']}_epoch{epoch}.pt"
            _save(model, words, path, epoch)
            losses[str(path)] = loss.item()
            loop.end_iter(loss=loss.item(), accuracy=(scores.argmax(1) == labels).float().mean().item())
        best = min(losses, key=losses.__getitem__)
        workflow.set_generated(best=best, loss=losses[best])
        return best


def _save(model: torch.nn.Module, words: list[str], path: Path, epoch: int) -> None:
    path.parent.mkdir(exist_ok=True)
    torch.save({"model": model.state_dict(), "words": words}, path)
    flowprov.log_artifact(path, "classifier", kind="checkpoint", epoch=epoch)


def _tensors() -> tuple[torch.Tensor, torch.Tensor, list[str]]:
    """Return how often each word is in each review, the labels as numbers, and the words."""
    with CLEANED.open(newline="") as file:
        rows: list[dict[str, Any]] = list(csv.DictReader(file))
    words = sorted({word for row in rows for word in row["text"].split()})
    place = {word: number for number, word in enumerate(words)}
    inputs = torch.zeros(len(rows), len(words))
    for counts, row in zip(inputs, rows, strict=True):
        for word in row["text"].split():
            counts[place[word]] += 1
    return inputs, torch.tensor([_LABELS.index(row["label"]) for row in rows]), words
