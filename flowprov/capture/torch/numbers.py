"""Numbers of tensors without a dimension, for ``capture.metrics``.

Flows in: such tensors in what a task or workflow generates. Flows out: their numbers. On the CPU these are
read at once. From another device they follow without waiting, by way of ``async_values``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from flowprov import records
from flowprov.capture import metrics
from flowprov.capture.torch._torch_private import count_dispatch_modes, count_function_modes
from flowprov.capture.torch.async_values import defer, flush_ready, is_on_host
from flowprov.capture.torch.modes import has_numbers, suspended_modes
from flowprov.runtime.context import Scope


class NumberReader:
    """Reads the numbers of tensors."""

    def read(self, tensor: Any) -> Any:
        """Return the number of a tensor; itself if it follows, and None if there is none."""
        if not isinstance(tensor, torch.Tensor) or not has_numbers(tensor):
            return None
        if not is_on_host(tensor):
            return None if tensor.is_complex() else tensor
        if type(tensor) is torch.Tensor and not (count_dispatch_modes() or count_function_modes()):
            return tensor.item()
        with suspended_modes():
            return tensor.item()

    def defer(
        self, scope: Scope, tensors: list[Any], correct: Callable[[list[Any]], records.Record | None]
    ) -> None:
        """Write a correction when a device has computed the numbers of tensors."""
        flush_ready()
        kinds = [_kind_of(tensor) for tensor in tensors]
        with suspended_modes():
            first = tensors[0].device
            wide = torch.float32 if first.type == "mps" else torch.float64
            numbers = [tensor.to(first, wide, non_blocking=True) for tensor in tensors]
            together = torch.stack(numbers)
            defer(
                scope,
                together,
                lambda read: correct([kind(number) for kind, number in zip(kinds, read, strict=True)]),
            )


def _kind_of(tensor: torch.Tensor) -> type:
    if tensor.dtype is torch.bool:
        return bool
    return float if tensor.is_floating_point() else int


metrics.register(NumberReader())
