"""How hooks of ours hang on a module.

Flows in: a module, and what captures it. Flows out: the module with hooks before and after its forward, and
where torch keeps these.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch.utils.hooks import RemovableHandle

from flowprov.capture.torch.backward import BackwardWatchHook
from flowprov.capture.torch.hooks import CapturedModule, ForwardHook, ForwardPreHook

_NAMES = (
    ("_forward_pre_hooks", "_forward_pre_hooks_with_kwargs"),
    ("_forward_hooks", "_forward_hooks_with_kwargs", "_forward_hooks_always_called"),
)


def register_hooks(module: torch.nn.Module, captured: CapturedModule, *, backward: bool = False) -> None:
    """Put both hooks on a module, and between them, if asked, that which watches for its backward."""
    before = [module.register_forward_pre_hook(ForwardPreHook(captured), with_kwargs=True)]
    after = [module.register_forward_hook(BackwardWatchHook(captured))] if backward else []
    after.append(module.register_forward_hook(ForwardHook(captured), with_kwargs=True, always_call=True))
    for handles, kept in zip((before, after), hook_dicts(module), strict=True):
        renumber_hooks(handles, kept)


def renumber_hooks(handles: Iterable[RemovableHandle], kept: Sequence[dict[int, Any]]) -> None:
    """Give hooks of ours numbers that no hook of the program's comes by.

    In a process that loads a saved model torch numbers hooks from 0 again. One of the program's that came by
    the number of ours would be called in the manner of ours, with keyword arguments.
    """
    for handle in handles:
        for each in kept:
            if handle.id in each:
                each[-1 - handle.id] = each.pop(handle.id)


def hook_dicts(module: torch.nn.Module) -> tuple[tuple[dict[int, Any], ...], ...]:
    """Give where torch keeps hooks of a module and what it knows of them: of those before, of those after."""
    return tuple(tuple(getattr(module, name) for name in names) for names in _NAMES)  # torch has no other way
