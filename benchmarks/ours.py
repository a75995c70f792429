"""The scenarios with flowprov."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import scenarios

import flowprov
from flowprov import runtime


@contextlib.contextmanager
def session() -> Iterator[None]:
    """Record into the working folder; everything is closed at the end."""
    with flowprov.workflow("benchmark"):
        yield
    runtime.reset()


def model() -> tuple[Any, Any]:
    """Make a captured layer and its plain twin."""
    import torch

    plain = torch.nn.Linear(scenarios.BATCH[1], 8)
    return flowprov.torch_capture(torch.nn.Linear(scenarios.BATCH[1], 8)), plain


scenarios.run(scenarios.Library(session, flowprov.task, lambda count: flowprov.Loop(range(count)), model))
