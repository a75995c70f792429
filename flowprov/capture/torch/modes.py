"""Under which of torch's modes a forward runs: training, autograd, autocast, recomputation.

Flows in: torch's own marks. Flows out: a short tuple on the hot path, and what a record says of it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import torch
import torch.utils.checkpoint
from torch.utils import _python_dispatch

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


def describe_modes(mode: Mode) -> dict[str, Any]:
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


# -- computing beside the program ------------------------------------------------------------------------

_functorch: Any = getattr(_C, "_functorch", None)
_is_wrapped: Callable[[torch.Tensor], bool] = getattr(_functorch, "is_functorch_wrapped_tensor", bool)
_without_modes: Any = getattr(_python_dispatch, "_disable_current_modes", contextlib.nullcontext)
_plain_dispatch = torch.Tensor.__torch_dispatch__
_PLAIN = (torch.Tensor, torch.nn.Parameter)


@contextlib.contextmanager
def suspended_modes() -> Iterator[None]:
    """Compute on the program's tensors without any of its modes knowing: gradients, autocast, its own."""
    lowered = [device for device in DEVICES if torch.is_autocast_enabled(device)] if any_autocast() else []
    for device in lowered:  # not by torch.autocast, which may clear the cache of casted weights as it ends
        torch.set_autocast_enabled(device, False)
    try:
        hidden = _without_modes() if dispatch_modes() else contextlib.nullcontext()
        with torch.no_grad(), _C.DisableTorchFunction(), hidden:
            yield
    finally:
        for device in lowered:
            torch.set_autocast_enabled(device, True)


def is_computable(tensor: Any) -> bool:
    """Whether a tensor holds numbers that can be computed on here and now, without waiting for a device.

    Not those without contents (meta, fake, not initialised), whose contents are elsewhere (DTensor), that lie
    otherwise than in strides (sparse, nested, quantised), or that stand for others (in ``torch.func``).
    Nothing is computed while a graph of a GPU is captured, since it would become a part of it.
    """
    kind = type(tensor)
    if kind not in _PLAIN and not (
        isinstance(tensor, torch.Tensor) and kind.__torch_dispatch__ is _plain_dispatch
    ):
        return False
    try:
        with _C.DisableTorchFunction():
            return (
                tensor.layout is torch.strided
                and (tensor.dtype.is_floating_point or tensor.dtype.is_complex)
                and not (tensor.is_quantized or tensor.is_nested or _is_wrapped(tensor))
                and tensor.numel() > 0
                and _is_ready(tensor.device)
            )
    except Exception:  # parameters that are not initialised, and whatever else has no shape
        return False


def _is_ready(device: torch.device) -> bool:
    if device.type == "cpu":
        return True
    if device.type == "cuda" and torch.cuda.is_current_stream_capturing():
        return False
    return hasattr(getattr(torch, device.type, None), "Event")  # meta, lazy devices and XLA have none
