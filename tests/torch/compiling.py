"""Ways to compile models."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch

import flowprov

Compile = Callable[..., Any]


def anew(model: torch.nn.Module, **options: Any) -> Any:
    """Compile a model into another one."""
    return torch.compile(model, **{"backend": "eager", **options})


def in_place(model: torch.nn.Module, **options: Any) -> Any:
    """Compile a model in place."""
    model.compile(**{"backend": "eager", **options})
    return model


both = pytest.mark.parametrize("compile_model", [anew, in_place])


def capture(model: torch.nn.Module, **options: Any) -> Any:
    """Capture a model and all of its children."""
    return flowprov.torch_capture(model, what="parent_and_children", depth="all", **options)


def twins(make: Callable[[], torch.nn.Module]) -> tuple[torch.nn.Module, torch.nn.Module]:
    """Create a model, and another with equal parameters."""
    first = make()
    return first, copy.deepcopy(first)
