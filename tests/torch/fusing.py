"""Layers with a fast path in inference, and whether they took it."""

from __future__ import annotations

import collections
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

LAYER = torch.ops.aten._transformer_encoder_layer_fwd.default


class Counting(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the operators that run."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seen: collections.Counter[Any] = collections.Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operator."""
        self.seen[func] += 1
        return func(*args, **(kwargs or {}))


def encoder_layer() -> torch.nn.TransformerEncoderLayer:
    """Create a layer that has a fast path."""
    return torch.nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)


def computed(target: torch.nn.Module, *args: Any, **kwargs: Any) -> tuple[torch.Tensor, Any]:
    """Compute in inference; return the output and the number of calls of each operator."""
    target.eval()
    with torch.no_grad(), Counting() as counting:
        output = target(*args, **kwargs)
    return output, counting.seen
