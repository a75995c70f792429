"""Put the hooks of capture on a module, under numbers that no other hook gets.

Flows in: a module, and the object that captures it. Flows out: the module with a hook before its forward and
one after it, and, where backward passes are recorded, one more between them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch.utils.hooks import RemovableHandle

from flowprov.capture.torch._torch_private import hook_dicts
from flowprov.capture.torch.backward import BackwardWatchHook
from flowprov.capture.torch.captured_module import CapturedModule
from flowprov.capture.torch.hooks import ForwardHook, ForwardPreHook


def register_hooks(module: torch.nn.Module, captured: CapturedModule, *, backward: bool = False) -> None:
    """Register the hooks of capture on a module.

    Parameters
    ----------
    module
        The module.
    captured
        The object that captures it.
    backward
        Whether its backward passes are recorded too.
    """
    closing = ForwardHook(captured)
    opening = ForwardPreHook(captured, closing)
    before = [module.register_forward_pre_hook(opening, with_kwargs=True)]
    after = [module.register_forward_hook(BackwardWatchHook(captured))] if backward else []
    after.append(module.register_forward_hook(closing, with_kwargs=True, always_call=True))
    for handles, dicts in zip((before, after), hook_dicts(module), strict=True):
        renumber_hooks(handles, dicts)
    opening.number = -1 - after[-1].id


def renumber_hooks(handles: Iterable[RemovableHandle], dicts: Sequence[dict[int, Any]]) -> None:
    """Renumber hooks of capture, so that no hook of the program gets their numbers.

    In a process that loads a saved model, torch numbers hooks from 0 again. If a hook of the program got the
    number that a hook of capture had in the saved model, torch would call it with keyword arguments too.
    """
    for handle in handles:
        for hooks in dicts:
            if handle.id in hooks:
                hooks[-1 - handle.id] = hooks.pop(handle.id)
