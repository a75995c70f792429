"""Hooks that a TransformerEncoderLayer does not count.

Flows in: a layer with hooks. Flows out: the same layer, which still takes its fused path in inference.

Such a layer leaves its fused path where any hook is on it or in it, because a hook might change what the
unfused parts compute. Ours stand outside of the layer and change nothing, but the path not taken would change
its results in the last bits. So they are left out of the count; the program's own hooks are in it as before.
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import torch


class Hooks(OrderedDict[int, Any]):
    """The hooks of a layer, whose number is that of the program's own; copied and saved as a plain one."""

    def __init__(self, hooks: Any, is_ours: Callable[[object], bool]) -> None:
        super().__init__(hooks)
        self._is_ours = is_ours

    def __len__(self) -> int:
        return sum(not self._is_ours(hook) for hook in self.values())

    def __bool__(self) -> bool:
        return super().__len__() > 0

    def __reduce__(self) -> tuple[Any, ...]:
        return OrderedDict, (list(self.items()),)

    def __deepcopy__(self, memo: dict[int, Any]) -> OrderedDict[int, Any]:
        return OrderedDict((number, copy.deepcopy(hook, memo)) for number, hook in self.items())


def prepare(layer: torch.nn.Module, is_ours: Callable[[object], bool]) -> None:
    """Have a layer leave our hooks out of what it counts.

    Where the program has hooks on it already the fused path is not taken anyhow, and the handles by which
    they are removed refer to the mapping that is there.
    """
    for name in ("_forward_hooks", "_forward_pre_hooks"):
        if not getattr(layer, name):
            setattr(layer, name, Hooks((), is_ours))
