"""Under which of torch's modes a forward runs, and how capture computes without them.

Flows in: what torch says of training, autograd, autocast, recomputation, ranks and devices. Flows out: a
short tuple on the hot path, the part of a record that describes it, and a context in which statistics are
computed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, TypeAlias

import torch

from flowprov import guard
from flowprov.capture.torch._torch_private import (
    DisableTorchFunction,
    count_dispatch_modes,
    current_graph_task_id,
    disable_dispatch_modes,
    is_any_autocast_enabled,
    is_functorch_tensor,
)

# Whether a forward trains, has gradients and is recomputed, and the dtype of autocast. Empty before it
# begins.
Mode: TypeAlias = tuple[Any, ...]

_is_grad_enabled = torch.is_grad_enabled
_AUTOCAST_DEVICES = tuple(
    device
    for device in ("cuda", "cpu", "xpu", "mps", "hpu", "xla")
    if torch.amp.is_autocast_available(device)
)
_PLAIN_CLASSES = (torch.Tensor, torch.nn.Parameter)
_plain_dispatch = torch.Tensor.__torch_dispatch__


# -- the modes of a forward ------------------------------------------------------------------------------


def mode_of(module: torch.nn.Module) -> Mode:
    """Return the modes under which a forward of a module begins."""
    autocast = _autocast_dtype() if is_any_autocast_enabled() else None
    # A forward inside autograd's own run is one that activation checkpointing computes again.
    return (module.training, _is_grad_enabled(), current_graph_task_id() != -1, autocast)


def describe_modes(mode: Mode) -> dict[str, Any]:
    """Return the metadata that a record has of the modes of a forward."""
    training, gradients, recomputed, autocast = mode
    metadata: dict[str, Any] = {"is_training": training, "grad_enabled": gradients}
    if recomputed:
        metadata["recomputed"] = True
    if autocast is not None:
        metadata["autocast_dtype"] = autocast
    return metadata


def rank_of_process_group() -> int | None:
    """Return the rank that torch knows: ranks that a program spawned have none in their environment."""
    group: Any = torch.distributed
    return int(group.get_rank()) if group.is_available() and group.is_initialized() else None


def _autocast_dtype() -> str | None:
    for device in _AUTOCAST_DEVICES:
        if torch.is_autocast_enabled(device):
            return str(torch.get_autocast_dtype(device)).removeprefix("torch.")
    return None


# -- computing without the modes of the program ----------------------------------------------------------


@contextlib.contextmanager
def suspended_modes() -> Iterator[None]:
    """Create a context in which capture computes without gradients, autocast or the program's modes."""
    autocast = (
        [device for device in _AUTOCAST_DEVICES if torch.is_autocast_enabled(device)]
        if is_any_autocast_enabled()
        else []
    )
    for device in autocast:  # not by torch.autocast, which may clear the cache of casted weights as it ends
        torch.set_autocast_enabled(device, False)
    try:
        undispatched = disable_dispatch_modes() if count_dispatch_modes() else contextlib.nullcontext()
        with torch.no_grad(), DisableTorchFunction(), undispatched:
            yield
    finally:
        for device in autocast:
            torch.set_autocast_enabled(device, True)


def is_computable(tensor: Any) -> bool:
    """Whether a tensor holds floating-point or complex numbers that can be computed on without waiting."""
    return has_numbers(tensor) and (tensor.dtype.is_floating_point or tensor.dtype.is_complex)


def has_numbers(tensor: Any) -> bool:
    """Whether a tensor holds numbers that can be computed on now, without waiting for a device.

    These do not: tensors without contents (meta, fake, uninitialized) or with contents elsewhere (DTensor),
    tensors that do not lie in strides (sparse, nested, quantized), and tensors that stand for others (in
    ``torch.func``). Nothing can be computed on while a CUDA graph is captured: it would become a part of the
    graph.
    """
    cls = type(tensor)
    if cls not in _PLAIN_CLASSES and not (
        isinstance(tensor, torch.Tensor) and cls.__torch_dispatch__ is _plain_dispatch
    ):
        return False
    try:
        with DisableTorchFunction():
            return (
                tensor.layout is torch.strided
                and not (tensor.is_quantized or tensor.is_nested or is_functorch_tensor(tensor))
                and tensor.numel() > 0
                and _is_ready(tensor.device)
            )
    except Exception as error:  # uninitialized parameters, and whatever else has no shape
        guard.pass_on(error)
        return False


def widest_float(device: torch.device) -> torch.dtype:
    """Return the widest floating-point type that a device computes with."""
    return torch.float32 if device.type == "mps" else torch.float64


def _is_ready(device: torch.device) -> bool:
    if device.type == "cpu":
        return True
    if device.type == "cuda" and torch.cuda.is_current_stream_capturing():
        return False
    return hasattr(getattr(torch, device.type, None), "Event")  # meta, lazy devices and XLA have none
