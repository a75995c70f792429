"""Models that several processes train together: recorded in each rank, and computing the same."""

from __future__ import annotations

import collections
import subprocess
import textwrap
from pathlib import Path

import pytest
import torch

from flowprov import records
from tests.support import clean_environment, lines, of_type, run
from tests.torch.support import children, forwards, metadata, openings, paths, torchrun

pytestmark = pytest.mark.skipif(
    not torch.distributed.is_available() or not torch.distributed.is_gloo_available(),
    reason="this torch has no gloo",
)

_PROGRAM = """
import sys, warnings
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

import flowprov

OPTIONS = dict(what="parent_and_children", depth="all", children_mode="tensor_inspection")
STEPS = 3

class Block(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(4, 4)
        self.dropout = torch.nn.Dropout(0.2)
    def forward(self, x):
        return self.dropout(self.linear(x)).relu()

class Plain(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = torch.nn.ModuleList([Block(), Block()])
        self.head = torch.nn.Linear(4, 2)
    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return self.head(x)

@flowprov.torch_capture(**OPTIONS)
class Decorated(Plain):
    pass

def by_instance():
    return flowprov.torch_capture(Plain(), name="Instance", **OPTIONS)

mesh = None

def replicated(model):
    return DistributedDataParallel(model)

def sharded(model):
    for block in model.blocks:
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)
    return model

def train(build, wrap):
    torch.manual_seed(0)
    model = wrap(build())
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    torch.manual_seed(10 + dist.get_rank())
    for _ in range(STEPS):
        optimizer.zero_grad()
        model(torch.randn(5, 4)).square().mean().backward()
        optimizer.step()
    full = [getattr(each, "full_tensor", lambda each=each: each)().detach() for each in model.parameters()]
    moments = [value for state in optimizer.state.values() for value in state.values()]
    moments = [getattr(each, "full_tensor", lambda each=each: each)() for each in moments]
    return full, moments, torch.get_rng_state()

# The first optimizer imports modules that keep the process group of that moment as a default. Threads of it
# would then outlive destroy_process_group, and may abort the process at its end.
torch.optim.Adam([torch.nn.Parameter(torch.ones(1))])
dist.init_process_group("gloo")
if sys.argv[1] == "fsdp":
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
wrap = {"ddp": replicated, "fsdp": sharded}[sys.argv[1]]
expected = train(Plain, wrap)
with flowprov.workflow("training"):
    for build in (Decorated, by_instance):
        found = train(build, wrap)
        for left, right in zip(expected[:2], found[:2]):  # parameters, and what the optimizer keeps
            assert len(left) == len(right) > 0
            assert all(torch.equal(a, b) for a, b in zip(left, right))
        assert torch.equal(expected[2], found[2])
mesh = None  # which keeps it, too
dist.destroy_process_group()
from flowprov import guard
assert guard.internal_errors() == {}, guard.internal_errors()
"""

_STEPS, _MODELS, _RANKS = 3, 2, 2
_FORWARDS = _STEPS * _MODELS
_PATHS = [
    "blocks.0.linear",
    "blocks.0.dropout",
    "blocks.0",
    "blocks.1.linear",
    "blocks.1.dropout",
    "blocks.1",
    "head",
]


@pytest.mark.parametrize("kind", ["ddp", pytest.param("fsdp", marks=pytest.mark.soak)])
def test_ranks_record_parent_and_children_of_a_wrapped_model(tmp_path: Path, kind: str) -> None:
    (tmp_path / "program.py").write_text(textwrap.dedent(_PROGRAM))
    shown = subprocess.run(
        torchrun("program.py", kind, ranks=_RANKS),
        cwd=tmp_path,
        env=clean_environment(OMP_NUM_THREADS="1"),
        check=False,
        capture_output=True,
        text=True,
    )
    assert shown.returncode == 0, shown.stderr
    found, inner = forwards(tmp_path), children(tmp_path)
    assert collections.Counter(task.rank for task in found) == {0: _FORWARDS, 1: _FORWARDS}
    assert len({task.campaign_id for task in (*found, *inner)}) == 1
    opened = [each for each in of_type(lines(tmp_path), records.Workflow) if each.name == "training"]
    assert len({each.workflow_id for each in opened}) == 1
    models = openings(tmp_path)
    assert {each.parent_workflow_id for each in models} == {opened[0].workflow_id}
    assert len({each.workflow_id for each in models}) == _MODELS, (
        "a model is one, of which each rank has a part"
    )
    for rank in range(_RANKS):
        outer = [task for task in found if task.rank == rank]
        own = [task for task in inner if task.rank == rank]
        assert [task.activity_id for task in outer] == ["Decorated"] * _STEPS + ["Instance"] * _STEPS
        assert paths(own) == _PATHS * _FORWARDS
        names = [task.activity_id for task in own]
        assert names == ["Linear", "Dropout", "Block", "Linear", "Dropout", "Block", "Linear"] * _FORWARDS
        ids = {task.task_id for task in (*outer, *own)}
        assert {task.parent_task_id for task in own} <= ids
        heads = [task for task in own if metadata(task)["module_path"] == "head"]
        assert [task.parent_task_id for task in heads] == [task.task_id for task in outer]
        assert {task.workflow_id for task in own} == {task.workflow_id for task in outer}


_SPAWNING = """
import os, sys
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.nn.parallel import DistributedDataParallel
import flowprov

def work(rank, file):
    dist.init_process_group("gloo", init_method=f"file://{file}", rank=rank, world_size=2)
    model = flowprov.torch_capture(torch.nn.Sequential(torch.nn.Linear(3, 2)), what="parent_and_children")
    wrapped = DistributedDataParallel(model)
    wrapped(torch.ones(2, 3)).sum().backward()
    dist.destroy_process_group()

if __name__ == "__main__":
    with flowprov.workflow("W"):
        mp.spawn(work, (os.path.abspath("store"),), nprocs=2)
"""


def test_ranks_that_a_program_spawned_have_the_rank_of_their_process_group(tmp_path: Path) -> None:
    run(_SPAWNING, tmp_path, env={"OMP_NUM_THREADS": "1"})
    found = [*forwards(tmp_path), *children(tmp_path)]
    assert sorted(str(task.rank) for task in found) == ["0", "0", "1", "1"]
    assert len({task.campaign_id for task in found}) == 1
    opened = [each for each in of_type(lines(tmp_path), records.Workflow) if each.name == "W"]
    assert {each.parent_workflow_id for each in openings(tmp_path)} == {opened[0].workflow_id}
