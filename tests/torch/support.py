"""Models to capture, and the records that they leave."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch

import flowprov
from flowprov import records
from flowprov.runtime import context
from tests.support import lines, of_type, tasks


class Plain(torch.nn.Module):
    """A model that is not captured."""

    def __init__(self, width: int = 3) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(width, 2)

    def forward(self, x: torch.Tensor) -> Any:
        """Compute."""
        return self.linear(x).relu()


@flowprov.torch_capture
class Net(torch.nn.Module):
    """A decorated model."""

    def __init__(self, width: int = 3) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(width, 2)

    def forward(self, x: torch.Tensor) -> Any:
        """Compute."""
        return self.linear(x).relu()


class Returns(torch.nn.Module):
    """A model that returns, or raises, what its constructor got."""

    def __init__(self, output: Any = None) -> None:
        super().__init__()
        self.output = output

    def forward(self, *_: Any, **__: Any) -> Any:
        """Return it, or raise it."""
        if isinstance(self.output, BaseException):
            raise self.output
        return self.output


class Calls(torch.nn.Module):
    """A model whose forward calls a function."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Any) -> Any:
        """Call it."""
        return self.function(x)


def batch(rows: int = 4) -> torch.Tensor:
    """Create an input."""
    return torch.ones(rows, 3)


def summary(*shape: int) -> dict[str, Any]:
    """Return what is recorded of a tensor of floats."""
    size = 4
    for length in shape:
        size *= length
    return {
        "type": "torch.Tensor",
        "shape": list(shape),
        "dtype": "float32",
        "device": "cpu",
        "nbytes": size,
    }


def forwards(buffer: Path) -> list[records.Task]:
    """Read the forwards, in the order in which they ended."""
    return [task for task in tasks(buffer) if task.subtype == "parent_forward"]


def children(buffer: Path) -> list[records.Task]:
    """Read the forwards of child modules, in the order in which they ended."""
    return [task for task in tasks(buffer) if task.subtype == "child_forward"]


def paths(found: list[records.Task]) -> list[str]:
    """Return the module path of each forward."""
    return [str(metadata(task)["module_path"]) for task in found]


def openings(buffer: Path) -> list[records.Workflow]:
    """Read the openings of the workflows of models."""
    return [each for each in of_type(lines(buffer), records.Workflow) if each.subtype == "torch_model"]


def ending(buffer: Path, workflow_id: str) -> records.Workflow | None:
    """Read the end of a workflow; None if it has none yet."""
    for each in of_type(lines(buffer), records.Workflow):
        if each.workflow_id == workflow_id and each.ended_at is not None:
            assert isinstance(each, records.Workflow)
            return each
    return None


def metadata(task: records.Task) -> dict[str, Any]:
    """Return the custom metadata of a task that has some."""
    assert task.custom_metadata is not None
    return task.custom_metadata


def hooks(model: torch.nn.Module) -> int:
    """Count the hooks of a model."""
    return len(model._forward_pre_hooks) + len(model._forward_hooks)


def torchrun(*program: str, ranks: int = 2) -> list[str]:
    """Return the command that runs a program in so many ranks."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    return [*launcher, "--nproc-per-node", str(ranks), *program]


def open_scopes() -> int:
    """Count the tasks that are open in the current journal."""
    scope = context.current_scope()
    assert scope is not None
    scopes = [holder.current_scope() for holder in scope.journal.open_scopes.values()]
    return sum(1 for each in scopes if each is not None and each.key is not None)
