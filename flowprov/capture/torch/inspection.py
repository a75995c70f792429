"""What is kept of a tensor where people asked to look closer: how it lies in memory, its part in autograd.

Flows in: a tensor. Flows out: JSON. Only what the host knows of a tensor is read, never an element, so
nothing waits for a device.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import torch

from flowprov import runtime
from flowprov.values import Summariser, array_summary, tensor_raw

_READY_SIZE = 4096

_ready: dict[tuple[object, ...], msgspec.Raw] = {}
_encode = msgspec.json.Encoder().encode
_summariser: tuple[runtime.Runtime, Summariser] | None = None


def inspect_tensor(tensor: Any) -> msgspec.Raw:
    """Describe a tensor; never raises.

    Parameters
    ----------
    tensor
        A tensor, or an array of another framework.

    Returns
    -------
    msgspec.Raw
        Beside shape, dtype, device and size: ``layout``, ``numel`` and ``requires_grad``; of a sparse tensor
        ``nnz``, of a quantised one ``qscheme``, of a nested one ``components``, how many tensors it holds.
    """
    if not isinstance(tensor, torch.Tensor):
        return tensor_raw(tensor)
    try:
        # Of these kinds two tensors that look the same here are the same in all that is told.
        key = (
            tensor.__class__,
            tensor.shape,
            tensor.dtype,
            tensor.device,
            tensor.layout,
            tensor.requires_grad,
        )
        found = _ready.get(key)
        if found is not None:
            return found
        told = _encode(_describe(tensor))
    except Exception:  # a nested tensor has no shape, a sparse one no size, a subclass may raise anything
        return msgspec.Raw(_encode(_describe(tensor)))
    raw = msgspec.Raw(told)
    if (
        tensor.__class__ in _KEPT
        and tensor.layout is torch.strided
        and not tensor.is_quantized
        and all(type(each) is int for each in key[1])
    ):
        if len(_ready) >= _READY_SIZE:
            _ready.clear()
        _ready[key] = raw
    return raw


_KEPT = (torch.Tensor, torch.nn.Parameter)


def encode_inspected(named: Any) -> bytes:
    """Encode inputs or outputs with a closer look at every tensor in them, by the settings in force."""
    global _summariser  # noqa: PLW0603 - kept for as long as the settings are
    held = runtime.get()
    if _summariser is None or _summariser[0] is not held:
        _summariser = held, Summariser(redact=held.settings.privacy.redact, arrays=inspect_tensor)
    return _summariser[1].encode_mapping(named)


def _describe(tensor: torch.Tensor) -> dict[str, Any]:
    told: dict[str, Any] = dict(array_summary(tensor))
    for name, read in _READ.items():
        try:
            value = read(tensor)
        except Exception:  # noqa: S112 - what this kind of tensor cannot tell is left out
            continue
        if value is not None:
            told[name] = value
    return told


def _numel(tensor: torch.Tensor) -> int | None:
    count = tensor.numel()
    return count if type(count) is int else None  # symbolic, while torch learns a graph


def _nnz(tensor: torch.Tensor) -> int | None:
    return None if tensor.layout in (torch.strided, _jagged) else int(tensor._nnz())  # noqa: SLF001 - torch has no public way that does not coalesce


def _qscheme(tensor: torch.Tensor) -> str | None:
    return str(tensor.qscheme()).removeprefix("torch.") if tensor.is_quantized else None


def _components(tensor: torch.Tensor) -> int | None:
    return int(tensor.size(0)) if tensor.is_nested else None


_jagged = getattr(torch, "jagged", None)
_READ: dict[str, Callable[[torch.Tensor], Any]] = {
    "layout": lambda tensor: str(tensor.layout).removeprefix("torch."),
    "numel": _numel,
    "requires_grad": lambda tensor: tensor.requires_grad,
    "nnz": _nnz,
    "qscheme": _qscheme,
    "components": _components,
}
