"""``torch_capture``: PyTorch models whose forwards are recorded.

Flows in: classes and instances of ``torch.nn.Module``. Flows out: one task record per forward, and one
workflow per model instance.

``decorator`` puts capture on and takes it off. ``selection`` chooses the modules, ``install`` and
``hook_registration`` put hooks on them, ``hooks`` runs at each forward, and ``encoding`` writes its inputs
and outputs. ``model`` holds what belongs to one instance, ``profile`` and ``flops`` describe it. ``modes``
and ``tracing`` read torch's state. ``compile`` and ``encoder_fastpath`` keep torch's own fast ways as they
are. ``statistics`` with ``async_values``, ``backward`` and ``optimizer`` are recorded where the settings ask
for them. ``_torch_private`` holds every private part of torch that these lean on.
"""

from __future__ import annotations

from flowprov.errors import MissingExtraError

try:
    import torch as _torch  # noqa: F401 - only to say in time that it is missing
except ModuleNotFoundError as error:
    if error.name != "torch":
        raise  # torch is installed, and something that it needs is not: its own message says what
    raise MissingExtraError("torch", "torch", "capture models") from error

from flowprov.capture.torch import numbers as _numbers  # noqa: F401 - it registers itself
from flowprov.capture.torch.decorator import torch_capture, torch_release

__all__ = ["torch_capture", "torch_release"]
