"""Under which of torch's modes a forward runs: training, autograd, autocast, recomputation.

Flows in: torch's own marks. Flows out: a short tuple on the hot path, and what a record says of it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import torch
import torch.utils.checkpoint

# Training, gradients, recomputed, autocast's dtype; empty before a forward has begun.
Mode: TypeAlias = tuple[Any, ...]

_C: Any = torch._C  # noqa: SLF001 - there is no public way to ask in a tenth of a microsecond
_gradients = torch.is_grad_enabled
any_autocast: Callable[[], bool] = getattr(_C, "_is_any_autocast_enabled", torch.is_autocast_enabled)
# By which activation checkpointing leaves a forward that it computes again, once it has what it needs.
StopRecomputation: type[BaseException] | tuple[()] = getattr(
    torch.utils.checkpoint, "_StopRecomputationError", ()
)
# A forward inside autograd's own run is one that activation checkpointing computes again.
graph_task: Callable[[], int] = getattr(_C, "_current_graph_task_id", lambda: -1)
# How many modes look at every operator that runs.
dispatch_modes: Callable[[], int] = getattr(_C, "_len_torch_dispatch_stack", int)


def mode_of(module: torch.nn.Module) -> Mode:
    """Give the modes under which a forward of a module begins."""
    autocast = _autocast_dtype() if any_autocast() else None
    return (module.training, _gradients(), graph_task() != -1, autocast)


def describe(mode: Mode) -> dict[str, Any]:
    """Say of modes what a record says of them."""
    training, gradients, recomputed, autocast = mode
    told: dict[str, Any] = {"is_training": training, "grad_enabled": gradients}
    if recomputed:
        told["recomputed"] = True
    if autocast is not None:
        told["autocast_dtype"] = autocast
    return told


def rank_of_process_group() -> int | None:
    """Give the rank that torch knows where the environment names none: of ranks that a program spawned."""
    group: Any = torch.distributed
    return int(group.get_rank()) if group.is_available() and group.is_initialized() else None


def _autocast_dtype() -> str | None:
    for device in DEVICES:
        if torch.is_autocast_enabled(device):
            return str(torch.get_autocast_dtype(device)).removeprefix("torch.")
    return None


DEVICES = tuple(
    device
    for device in ("cuda", "cpu", "xpu", "mps", "hpu", "xla")
    if torch.amp.is_autocast_available(device)
)
