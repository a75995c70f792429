"""Hooks that a TransformerEncoderLayer does not count.

Flows in: a layer with hooks. Flows out: the same layer, which still takes its fused path in inference.

Such a layer leaves its fused path where any hook is on it or in it, because a hook might change what the
unfused parts compute. Ours stand outside of the layer and change nothing, but the path not taken would change
its results in the last bits. So they are left out of the count; the program's own hooks are in it as before.
Hooks on modules inside a layer are counted: on the fused path these are not called, and nothing would be
recorded of them.
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import torch

from flowprov import guard

_NAMES = ("_forward_hooks", "_forward_pre_hooks")


class Hooks(OrderedDict[int, Any]):
    """The hooks of a layer, whose number is that of the program's own.

    It is copied and saved as a plain mapping without ours: in that, they would be counted.
    """

    def __init__(self, is_ours: Callable[[object], bool]) -> None:
        super().__init__()
        self._is_ours = is_ours

    def __len__(self) -> int:
        return sum(not self._is_ours(hook) for _, hook in self.items())

    def __bool__(self) -> bool:
        return super().__len__() > 0

    def __reduce__(self) -> tuple[Any, ...]:
        return OrderedDict, ([(number, hook) for number, hook in self.items() if not self._is_ours(hook)],)

    def __deepcopy__(self, memo: dict[int, Any]) -> OrderedDict[int, Any]:
        copied = (
            (number, copy.deepcopy(hook, memo)) for number, hook in self.items() if not self._is_ours(hook)
        )
        return OrderedDict(copied)


def prepare(layer: torch.nn.Module, is_ours: Callable[[object], bool]) -> None:
    """Have a layer leave our hooks out of what it counts.

    Where the program has hooks on it already the fused path is not taken anyhow. The mapping with these stays
    in place: their handles refer to it, and Dynamo cannot follow the count of one that holds both kinds.
    """
    for name in _NAMES:
        if not dict(getattr(layer, name)):
            setattr(layer, name, Hooks(is_ours))


def restore(module: torch.nn.Module) -> None:
    """Give a layer a plain mapping back, unless hooks are in ours, to which their handles refer."""
    for name in _NAMES:
        hooks = getattr(module, name)
        if isinstance(hooks, Hooks) and not hooks:
            setattr(module, name, OrderedDict())


def say_what_is_seen(model: str, module: torch.nn.Module, chosen: set[torch.nn.Module]) -> None:
    """Say once of a model that recording what is inside its layers makes them leave their fused path."""
    for path, layer in module.named_modules():
        if isinstance(layer, torch.nn.TransformerEncoderLayer) and _may_be_fused(layer):
            inner = next((name for name, part in layer.named_modules() if name and part in chosen), None)
            if inner is not None:
                guard.say_once(
                    f"seen inside {model}",
                    "flowprov: %s of %s is recorded, so this layer (like each that has a recorded part) "
                    "leaves its fused path in inference, as with any hook in it: it runs slower, and its "
                    "results may differ in the last bits from those without capture. To keep the path, "
                    "exclude the modules inside such layers.",
                    f"{path}.{inner}" if path else inner,
                    model,
                )
                return


def _may_be_fused(layer: torch.nn.Module) -> bool:
    attention = getattr(layer, "self_attn", None)
    return bool(getattr(attention, "batch_first", False) and getattr(layer, "activation_relu_or_gelu", 0))
