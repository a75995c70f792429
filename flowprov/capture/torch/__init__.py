"""``torch_capture``: PyTorch models whose forwards are recorded.

Flows in: classes and instances of ``torch.nn.Module``. Flows out: one task record per forward, and one
workflow per model instance. ``decorate`` puts capture on and takes it off, ``hooks`` runs at each forward,
``model`` holds what is known of one instance, ``tensors`` names inputs and outputs, ``tracing`` tells when a
forward is none, ``profile`` describes a model.
"""

from __future__ import annotations

from flowprov.errors import MissingExtraError

try:
    import torch as _torch  # noqa: F401 - only to say in time that it is missing
except ModuleNotFoundError as error:
    if error.name != "torch":
        raise  # it is installed, and something that it needs is not: its own message says what
    raise MissingExtraError("torch", "torch", "capture models") from error

from flowprov.capture.torch.decorator import torch_capture, torch_release

__all__ = ["torch_capture", "torch_release"]
