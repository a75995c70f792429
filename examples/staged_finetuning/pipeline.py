"""Finetune a model in stages: generate, mix, train, evaluate, train further, evaluate, prune.

The command is ``python pipeline.py --profile tiny [STAGE ...]``; without stages it runs all but ``prune``. A
stage finds what others made by its file alone, so stages may run on their own, on different days.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import nn

import flowprov

DATA, CHECKPOINTS, RESULTS = Path("data"), Path("checkpoints"), Path("results")
BEST = Path("best.txt")
Sums = list[list[int]]  # each with two numbers and their sum


def write_sums(path: Path, sums: Sums) -> None:
    """Write a data set, and record that it was made here."""
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(f"{json.dumps(one)}\n" for one in sums))
    flowprov.log_artifact(path, kind="dataset", metadata={"samples": len(sums)})


def read_sums(path: Path) -> Sums:
    """Read a data set, and record that it was used here."""
    flowprov.use_artifact(path, kind="dataset")
    return [json.loads(line) for line in path.read_text().splitlines()]


def generate(profile: Any) -> None:
    """Write easy sums, hard sums, and those for the evaluation."""
    chance, sizes = random.Random(profile["seed"]), profile["generate"]  # noqa: S311 - it is no secret
    for name, largest in (("easy", 9), ("hard", 99), ("validation", 99)):
        pairs = [(chance.randint(0, largest), chance.randint(0, largest)) for _ in range(sizes[name])]
        write_sums(DATA / f"{name}.jsonl", [[a, b, a + b] for a, b in pairs])


def mix(profile: Any) -> None:
    """Write the data of each phase: a share of the easy sums and a share of the hard ones."""
    chance = random.Random(profile["seed"])  # noqa: S311 - as above
    for phase, shares in profile["mix"].items():
        # A task of its own: what a phase is made of is what was read for it, and nothing else.
        with flowprov.task_scope("mix_phase", used={"phase": phase, "shares": shares}):
            mixed: Sums = []
            for name, share in shares.items():
                if share:
                    sums = read_sums(DATA / f"{name}.jsonl")
                    mixed += chance.sample(sums, round(share * len(sums)))
            chance.shuffle(mixed)
            write_sums(DATA / f"{phase}.jsonl", mixed)


def build_model(dim: int, hidden: int) -> nn.Module:
    """Return a model that adds two numbers by their digits."""
    return nn.Sequential(
        nn.Embedding(10, dim), nn.Flatten(), nn.Linear(4 * dim, hidden), nn.ReLU(), nn.Linear(hidden, 199)
    )


def as_tensors(sums: Sums) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the digits of sums, and their results."""
    digits = [[a // 10, a % 10, b // 10, b % 10] for a, b, _ in sums]
    return torch.tensor(digits), torch.tensor([result for _, _, result in sums])


def train(profile: Any, phase: str, base: Path | None = None) -> None:
    """Train one phase, from a checkpoint of an earlier one; save a checkpoint after each epoch."""
    options = profile["train"][phase]
    torch.manual_seed(profile["seed"])
    model = build_model(**profile["model"])
    if base is not None:
        flowprov.use_artifact(base, kind="checkpoint")
        model.load_state_dict(torch.load(base, weights_only=True))
    optimizer = torch.optim.AdamW(model.parameters(), lr=options["lr"])
    digits, results = as_tensors(read_sums(DATA / f"{phase}.jsonl"))
    folder = CHECKPOINTS / phase
    folder.mkdir(parents=True, exist_ok=True)
    epochs = flowprov.EpochLoop(options["epochs"])
    for epoch in epochs:
        losses = []
        order = torch.randperm(len(digits))
        for batch in torch.split(order, options["batch_size"]):
            loss = nn.functional.cross_entropy(model(digits[batch]), results[batch])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            losses.append(loss.item())
        epochs.end_iter(train_loss=sum(losses) / len(losses))
        torch.save(model.state_dict(), folder / f"epoch_{epoch}.pt")
        flowprov.log_artifact(folder / f"epoch_{epoch}.pt", kind="checkpoint", epoch=epoch)


def evaluate(profile: Any, phase: str) -> None:
    """Measure each checkpoint of a phase, and write which is the best."""
    digits, results = as_tensors(read_sums(DATA / "validation.jsonl"))
    model = build_model(**profile["model"])
    losses: dict[str, float] = {}
    for path in flowprov.Loop(sorted((CHECKPOINTS / phase).glob("epoch_*.pt")), item_name="checkpoint"):
        flowprov.use_artifact(path, kind="checkpoint")
        model.load_state_dict(torch.load(path, weights_only=True))
        with torch.no_grad():
            scores = model(digits)
        losses[str(path)] = nn.functional.cross_entropy(scores, results).item()
        accuracy = (scores.argmax(1) == results).float().mean()
        flowprov.log_metrics(val_loss=losses[str(path)], val_accuracy=accuracy)
    best = min(losses, key=losses.__getitem__)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{phase}.json").write_text(json.dumps({"best": best, "val_loss": losses}, indent=1))
    BEST.write_text(best)
    flowprov.log_artifact(RESULTS / f"{phase}.json", kind="evaluation")
    print(f"{phase}: the best checkpoint is {best}, validation loss {losses[best]:.4f}")


def best_of(phase: str) -> Path:
    """Return the best checkpoint of a phase."""
    flowprov.use_artifact(RESULTS / f"{phase}.json", kind="evaluation")
    return Path(json.loads((RESULTS / f"{phase}.json").read_text())["best"])


def prune(_profile: Any) -> None:
    """Remove all checkpoints but the best of each phase."""
    kept = {best_of(path.stem) for path in sorted(RESULTS.glob("*.json"))}
    for path in sorted(CHECKPOINTS.glob("*/*.pt")):
        if path not in kept:
            flowprov.use_artifact(path, kind="checkpoint", metadata={"removed": True})
            path.unlink()
            print(f"removed {path}")


STAGES: dict[str, Callable[[Any], None]] = {
    "generate": generate,
    "mix": mix,
    "train_00": lambda profile: train(profile, "phase_00"),
    "evaluate_00": lambda profile: evaluate(profile, "phase_00"),
    "train_10": lambda profile: train(profile, "phase_10", best_of("phase_00")),
    "evaluate_10": lambda profile: evaluate(profile, "phase_10"),
    "prune": prune,
}


def run(name: str, stages: Iterable[str]) -> None:
    """Run stages, each as a workflow."""
    file = Path(__file__).parent / "profiles" / f"{name}.yaml"
    profile = yaml.safe_load(file.read_text())
    with flowprov.campaign("staged_finetuning"):
        for stage in stages:
            with flowprov.workflow(stage):
                flowprov.log_config(profile, file=file)
                STAGES[stage](profile)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--profile", default="tiny", help="a file in the folder profiles")
    parser.add_argument("stages", nargs="*", metavar="STAGE", help=", ".join(STAGES))
    given = parser.parse_args()
    unknown = set(given.stages) - set(STAGES)
    if unknown:
        parser.error(f"there is no stage {', '.join(sorted(unknown))}")
    run(given.profile, given.stages or [name for name in STAGES if name != "prune"])


if __name__ == "__main__":
    main()
