"""Hooks that a TransformerEncoderLayer does not count.

Flows in: a layer with hooks. Flows out: the same layer, which still takes its fused path in inference.

Such a layer leaves its fused path where any hook is on it or in it, because a hook might change what the
unfused parts compute. Ours stand outside of the layer and change nothing, but the path not taken would change
its results in the last bits. So they are left out of the count, by a mapping of ours in the place of torch's.
Hooks on modules inside a layer are counted: on the fused path these are not called, and nothing would be
recorded of them.

Where the program has a hook on the layer the path is not taken anyhow, and the mapping is a plain one, as
Dynamo cannot count the hooks in any other. When the last of these is gone ours is put in place again: at once
if it is the first that is removed by its handle, else at the next forward that runs uncompiled.
"""

from __future__ import annotations

import copy
import weakref
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import Any

import torch

from flowprov import guard
from flowprov.capture.torch.hook_registration import renumber_hooks
from flowprov.capture.torch.hooks import CaptureHook
from flowprov.capture.torch.tracing import is_compiling

_NAMES = ("_forward_pre_hooks", "_forward_hooks")


class UncountedHookDict(OrderedDict[int, Any]):
    """The hooks of a layer, whose number is that of the program's own.

    It is copied and saved as a plain mapping without ours: in that, they would be counted.
    """

    def __init__(self, layer: torch.nn.Module, name: str, hooks: Mapping[int, Any]) -> None:
        super().__init__()
        self._layer = weakref.ref(layer)
        self._name = name
        self._successor: weakref.ref[OrderedDict[int, Any]] | None = None
        for number, hook in hooks.items():
            super().__setitem__(number, hook)

    def __len__(self) -> int:
        return len(_foreign(self.values()))

    def __bool__(self) -> bool:
        return super().__len__() > 0

    def __setitem__(self, number: int, hook: Any) -> None:
        super().__setitem__(number, hook)
        layer = self._layer()
        if layer is not None and vars(layer).get(self._name) is self and not isinstance(hook, CaptureHook):
            sync_hook_dict(layer)

    def __delitem__(self, number: int) -> None:
        """Remove a hook, from what took the place of this, too: its handle knows of this only."""
        super().__delitem__(number)
        layer, successor = self._layer(), None if self._successor is None else self._successor()
        if layer is not None and successor is not None:
            successor.pop(number, None)
            sync_hook_dict(layer)

    def as_plain_dict(self) -> OrderedDict[int, Any]:
        """Make the plain mapping that takes the place of this."""
        made = self.copy()
        vars(made)["before"] = _Kept(self)
        self._successor = weakref.ref(made)
        return made

    def copy(self) -> OrderedDict[int, Any]:  # type: ignore[override]
        """Copy it as a plain mapping; with ours, which run wherever that is put."""
        return OrderedDict(self.items())

    def __reduce__(self) -> tuple[Any, ...]:
        return OrderedDict, (
            [(number, hook) for number, hook in self.items() if not isinstance(hook, CaptureHook)],
        )

    def __deepcopy__(self, memo: dict[int, Any]) -> OrderedDict[int, Any]:
        copied = (
            (number, copy.deepcopy(hook, memo))
            for number, hook in self.items()
            if not isinstance(hook, CaptureHook)
        )
        return OrderedDict(copied)


class _Kept:
    """Keeps a mapping, to which handles refer, as long as its successor lives; copied and saved as None."""

    __slots__ = ("mapping",)

    def __init__(self, mapping: UncountedHookDict) -> None:
        self.mapping = mapping

    def __reduce__(self) -> tuple[Any, ...]:
        return type(None), ()


class ResyncHook(CaptureHook):
    """Looks before a forward whether the program's hooks are gone: of most removals nobody is told."""

    __slots__ = ()

    def __call__(self, layer: torch.nn.Module, _args: tuple[Any, ...], _kwargs: Any = None) -> None:
        """Run before a forward; in time for what the layer counts in it."""
        if is_compiling():
            return
        with guard.guarded("following the hooks of a layer"):
            sync_hook_dict(layer)


def sync_hook_dict(module: torch.nn.Module) -> None:
    """Have a mapping of ours where only our hooks are on a layer, and a plain one everywhere else."""
    is_layer = isinstance(module, torch.nn.TransformerEncoderLayer)
    for name in _NAMES:
        hooks = getattr(module, name)
        is_ours, foreign = isinstance(hooks, UncountedHookDict), _foreign(hooks.values())
        # Not by setattr: modules may have one of their own.
        if is_ours and (foreign or not hooks):
            vars(module)[name] = hooks.as_plain_dict() if hooks else OrderedDict()
        elif is_layer and not is_ours and hooks and not foreign:
            vars(module)[name] = UncountedHookDict(module, name, hooks)
    if is_layer:
        _watch(module)


def _watch(layer: torch.nn.Module) -> None:
    """Look before each forward, for as long as there are hooks of both kinds."""
    before: dict[int, Any] = layer._forward_pre_hooks  # noqa: SLF001 - torch has no other way
    hooks = [hook for name in _NAMES for hook in getattr(layer, name).values()]
    watching = [number for number, hook in before.items() if isinstance(hook, ResyncHook)]
    ours = next(
        (each for each in hooks if isinstance(each, CaptureHook) and not isinstance(each, ResyncHook)), None
    )
    if ours is None or not _foreign(hooks):
        for number in watching:
            del before[number]
    elif not watching:
        renumber_hooks([layer.register_forward_pre_hook(ResyncHook(ours.captured))], (before,))


def _foreign(hooks: Iterable[Any]) -> list[Any]:
    return [hook for hook in hooks if not isinstance(hook, CaptureHook)]


def warn_fastpath_lost(model: str, module: torch.nn.Module, chosen: set[torch.nn.Module]) -> None:
    """Say once of a model that recording what is inside its layers makes them leave their fused path."""
    for path, layer in module.named_modules():
        if isinstance(layer, torch.nn.TransformerEncoderLayer) and _may_be_fused(layer):
            inner = next((name for name, part in layer.named_modules() if name and part in chosen), None)
            if inner is not None:
                guard.warn_once(
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
