"""Compile a training once, and run it many times, on several ranks.

The commands are ``python train.py command=data|compile|run [key=value ...]``, the last one also below
torchrun or mpirun.
"""

from __future__ import annotations

import csv
import json
import os
import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from compiled_step import CompiledStep, State, build_model, compile_step, loss_of
from omegaconf import OmegaConf
from safetensors.torch import save_file
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

import flowprov

CONFIG = Path(__file__).parent / "config.yaml"
_RANK = ("RANK", "PMI_RANK", "OMPI_COMM_WORLD_RANK")
_WORLD = ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE")
Rows = list[dict[str, Any]]


def write_data(cfg: Any) -> None:
    """Write sequences that count in steps of one to five."""
    count, length, vocabulary = cfg.sequences.count, cfg.sequences.length, cfg.sequences.vocabulary
    order = torch.Generator().manual_seed(cfg.seed)
    first = torch.randint(vocabulary, (count, 1), generator=order)
    by = torch.randint(1, 6, (count, 1), generator=order)
    Path(cfg.data).parent.mkdir(parents=True, exist_ok=True)
    torch.save((first + by * torch.arange(length + 1)) % vocabulary, cfg.data)
    flowprov.log_artifact(cfg.data, kind="dataset")


def compile_training(cfg: Any) -> None:
    """Write the graph of one step."""
    path = Path(cfg.output_dir) / "train.pt2"
    compile_step(cfg, path)
    flowprov.log_artifact(path, kind="compiled")
    print(f"compiled: {path}")


class FusedTraining:
    """Trains with a graph in which forward, backward and optimizer are one."""

    def __init__(self, cfg: Any) -> None:
        flowprov.use_artifact(cfg.pef, kind="compiled")
        self._state = State(build_model(cfg))
        self._step = CompiledStep(Path(cfg.pef), self._state)

    @flowprov.task(activity_id="fused_step", subtype="fused_step")
    def step(self, tokens: torch.Tensor) -> torch.Tensor:
        """Do one step; return its loss."""
        loss = self._step(tokens)
        average(self._state.parameters)  # the graph is that of one rank
        return loss

    def weights(self) -> dict[str, torch.Tensor]:
        """Return the parameters by name."""
        return self._state.weights()


class PlainTraining:
    """Trains step by step, as on a CPU: forward, backward and the step of the optimizer."""

    def __init__(self, cfg: Any) -> None:
        self._model = flowprov.torch_capture(build_model(cfg))
        self._optimizer = torch.optim.AdamW(self._model.parameters(), **cfg.optimizer)

    def step(self, tokens: torch.Tensor) -> torch.Tensor:
        """Do one step; return its loss."""
        self._optimizer.zero_grad()
        loss = loss_of(self._model(tokens[:, :-1]), tokens)
        loss.backward()  # type: ignore[no-untyped-call]
        self._optimizer.step()
        average([one.data for one in self._model.parameters()])
        return loss.detach()

    def weights(self) -> dict[str, torch.Tensor]:
        """Return the parameters by name."""
        return {name: one.detach() for name, one in self._model.named_parameters()}


def average(tensors: list[torch.Tensor]) -> None:
    """Make tensors the same on all ranks."""
    for tensor in tensors if dist.is_initialized() else ():
        dist.all_reduce(tensor)
        tensor.div_(dist.get_world_size())


def run(cfg: Any) -> None:
    """Train, on as many ranks as were started."""
    rank, world = number(_RANK, 0), number(_WORLD, 1)
    output = Path(cfg.output_dir)
    output.mkdir(parents=True, exist_ok=True)
    # The first optimizer imports modules that keep the process group of that moment as a default. Its threads
    # would then outlive destroy_process_group, and may abort the process at its end.
    training = PlainTraining(cfg) if cfg.pef is None else FusedTraining(cfg)
    if world > 1:
        meeting = output / f"meeting-{os.environ.get('TORCHELASTIC_RUN_ID', os.getppid())}"
        dist.init_process_group("gloo", f"file://{meeting.absolute()}", rank=rank, world_size=world)
    flowprov.use_artifact(cfg.data, kind="dataset")
    dataset = TensorDataset(torch.load(cfg.data, weights_only=True))
    sampler: Any = DistributedSampler(dataset, world, rank, seed=cfg.seed)
    loader = DataLoader(dataset, cfg.batch_size, sampler=sampler, drop_last=True)
    if rank == 0:
        print(f"Number of workers: {world}")
        print(f"Per worker batch size: {cfg.batch_size}")
        print(f"Per worker number of batches: {len(loader)}")
        print(f"Per worker number of sequences: {len(loader) * cfg.batch_size}")
    rows: Rows = []
    for epoch in flowprov.EpochLoop(cfg.epochs):
        if cfg.set_epoch:
            sampler.set_epoch(epoch)
        batches = flowprov.BatchLoop(flowprov.sampled(loader))
        for (tokens,) in batches:
            loss = training.step(tokens)
            average([loss])
            batches.end_iter(loss=loss)
            rows.append({"step": len(rows) + 1, "epoch": epoch, "loss": loss.item()})
    if rank == 0:
        write_results(cfg, output, training.weights(), rows)
    if world > 1:
        dist.destroy_process_group()


def write_results(cfg: Any, output: Path, weights: dict[str, torch.Tensor], rows: Rows) -> None:
    """Write a checkpoint folder as Hugging Face has them, a summary, and the metrics of each step."""
    folder = output / f"checkpoint-{len(rows)}"
    folder.mkdir(exist_ok=True)
    options = {"model_type": "tiny", **OmegaConf.to_container(cfg.model), **cfg.sequences}  # type: ignore[dict-item]
    (folder / "config.json").write_text(json.dumps(options, indent=1))
    save_file({name: one.contiguous() for name, one in weights.items()}, folder / "model.safetensors")
    flowprov.log_artifact(folder, kind="checkpoint", step=len(rows))
    with (output / "per_step_metrics.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    flowprov.log_artifact(output / "per_step_metrics.csv", kind="metrics")
    way = "step by step" if cfg.pef is None else f"compiled: {cfg.pef}"
    summary = f"{way}\nsteps: {len(rows)}\nfinal loss: {rows[-1]['loss']:.6f}\n"
    (output / "summary.txt").write_text(summary)
    flowprov.log_artifact(output / "summary.txt", kind="summary")
    print(summary, end="")


def number(names: tuple[str, ...], otherwise: int) -> int:
    """Return what a launcher set, whichever it was."""
    return next((int(os.environ[name]) for name in names if name in os.environ), otherwise)


COMMANDS = {"data": write_data, "compile": compile_training, "run": run}


def main() -> None:
    """Read the configuration, and do what it says."""
    overrides = sys.argv[1:]
    cfg: Any = OmegaConf.merge(OmegaConf.load(CONFIG), OmegaConf.from_dotlist(overrides))
    name = Path(cfg.output_dir).name if cfg.command == "run" else cfg.command
    details: Any = {"torch": {"backward": True, "optimizer": "steps"}}
    flowprov.configure(instrumentation=details)
    with flowprov.workflow(name):
        flowprov.log_config(cfg, file=CONFIG, overrides=overrides)
        COMMANDS[cfg.command](cfg)


if __name__ == "__main__":
    main()
