"""Computing beside the program: on its tensors, and unseen by its modes, its autograd and its random numbers.

Flows in: tensors of the program. Flows out: whether they can be computed on, and a context to do it in.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.utils import _python_dispatch

from flowprov.capture.torch.modes import DEVICES, any_autocast, dispatch_modes

_C: Any = torch._C  # noqa: SLF001 - there is no public way to ask
_functorch: Any = getattr(_C, "_functorch", None)
_is_wrapped: Callable[[torch.Tensor], bool] = getattr(_functorch, "is_functorch_wrapped_tensor", bool)
_without_modes: Any = getattr(_python_dispatch, "_disable_current_modes", contextlib.nullcontext)
_plain_dispatch = torch.Tensor.__torch_dispatch__
_PLAIN = (torch.Tensor, torch.nn.Parameter)


@contextlib.contextmanager
def aside() -> Iterator[None]:
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
