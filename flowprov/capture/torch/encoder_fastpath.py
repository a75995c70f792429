"""Keep the fast path of a captured ``TransformerEncoderLayer``.

Flows in: a layer with hooks. Flows out: the same layer, which still takes its fast path in inference.

Torch fuses the operators of such a layer in inference, unless a hook is on it or in it: a hook might change
what the parts compute. The hooks of capture are on the layer and change nothing, but without the fast path
its results would differ in the last bits. So they are left out of the number of hooks, by an
``UncountedHookDict`` in the place of torch's dict. Hooks on modules inside a layer are counted: the fast path
does not call these modules, so nothing would be recorded of them.

Where the program has a hook on the layer, torch leaves the fast path anyway. Then the dict is a plain one, as
Dynamo can count the hooks in no other. When the last hook of the program is gone, the uncounted dict comes
back: at once if that hook was the first to be put on the captured layer, as its handle refers to the
uncounted dict, else at the next forward that runs uncompiled.
"""

from __future__ import annotations

import copy
import weakref
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import Any

import torch

from flowprov import guard
from flowprov.capture.torch._torch_private import (
    FORWARD_HOOKS,
    FORWARD_PRE_HOOKS,
    FUSED_ACTIVATION,
)
from flowprov.capture.torch.hook_registration import renumber_hooks
from flowprov.capture.torch.hooks import CaptureHook
from flowprov.capture.torch.tracing import is_compiling

_HOOK_DICTS = (FORWARD_PRE_HOOKS, FORWARD_HOOKS)


class UncountedHookDict(OrderedDict[int, Any]):
    """The hooks of a layer, whose length is the number of the program's hooks.

    It is pickled and deep-copied as a plain dict without the hooks of capture, which that would count.

    Parameters
    ----------
    layer
        The layer.
    name
        The attribute of the layer that holds the dict.
    hooks
        The hooks by number.
    """

    def __init__(self, layer: torch.nn.Module, name: str, hooks: Mapping[int, Any]) -> None:
        super().__init__()
        self._layer = weakref.ref(layer)
        self._name = name
        self._successor: weakref.ref[OrderedDict[int, Any]] | None = None
        for number, hook in hooks.items():
            super().__setitem__(number, hook)

    def __len__(self) -> int:
        return len(_hooks_of_program(self.values()))

    def __bool__(self) -> bool:
        return super().__len__() > 0

    def __setitem__(self, number: int, hook: Any) -> None:
        super().__setitem__(number, hook)
        layer = self._layer()
        if layer is not None and vars(layer).get(self._name) is self and not isinstance(hook, CaptureHook):
            sync_hook_dict(layer)

    def __delitem__(self, number: int) -> None:
        """Remove a hook, also from the plain dict that took the place of this one.

        The handle of a hook refers to the dict into which the hook was put.
        """
        super().__delitem__(number)
        layer, successor = self._layer(), None if self._successor is None else self._successor()
        if layer is not None and successor is not None:
            successor.pop(number, None)
            sync_hook_dict(layer)

    def as_plain_dict(self) -> OrderedDict[int, Any]:
        """Create the plain dict that takes the place of this one."""
        plain = self.copy()
        vars(plain)["predecessor"] = _KeepAlive(self)
        self._successor = weakref.ref(plain)
        return plain

    def copy(self) -> OrderedDict[int, Any]:  # type: ignore[override]
        """Return a plain dict with all hooks, those of capture too: they run wherever it is put."""
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


class _KeepAlive:
    """Keeps a dict to which handles refer alive as long as its successor; copied and pickled as None."""

    __slots__ = ("hooks",)

    def __init__(self, hooks: UncountedHookDict) -> None:
        self.hooks = hooks

    def __reduce__(self) -> tuple[Any, ...]:
        return type(None), ()


class ResyncHook(CaptureHook):
    """Looks before each forward whether the hooks of the program are gone: torch announces no removal."""

    __slots__ = ()

    def __call__(self, layer: torch.nn.Module, _args: tuple[Any, ...], _kwargs: Any = None) -> None:
        """Run before a forward, and before the layer counts its hooks."""
        if is_compiling():
            return
        with guard.guarded("following the hooks of a layer"):
            sync_hook_dict(layer)


def sync_hook_dict(module: torch.nn.Module) -> None:
    """Use an uncounted dict where all hooks of a layer are those of capture, and a plain dict elsewhere."""
    is_layer = isinstance(module, torch.nn.TransformerEncoderLayer)
    for name in _HOOK_DICTS:
        hooks: Any = getattr(module, name, {})
        is_uncounted, others = isinstance(hooks, UncountedHookDict), _hooks_of_program(hooks.values())
        # Not by setattr: a module may have a __setattr__ of its own.
        if is_uncounted and (others or not hooks):
            vars(module)[name] = hooks.as_plain_dict() if hooks else OrderedDict()
        elif is_layer and not is_uncounted and hooks and not others:
            vars(module)[name] = UncountedHookDict(module, name, hooks)
    if is_layer:
        _sync_resync_hook(module)


def _sync_resync_hook(layer: torch.nn.Module) -> None:
    """Keep a hook that looks before each forward, for as long as a layer has hooks of both kinds."""
    pre_hooks: dict[int, Any] = getattr(layer, FORWARD_PRE_HOOKS, {})
    hooks = [hook for name in _HOOK_DICTS for hook in getattr(layer, name, {}).values()]
    resync_hooks = [number for number, hook in pre_hooks.items() if isinstance(hook, ResyncHook)]
    capture_hook = next(
        (hook for hook in hooks if isinstance(hook, CaptureHook) and not isinstance(hook, ResyncHook)), None
    )
    if capture_hook is None or not _hooks_of_program(hooks):
        for number in resync_hooks:
            del pre_hooks[number]
    elif not resync_hooks:
        resync_hook = ResyncHook(capture_hook.captured)
        renumber_hooks([layer.register_forward_pre_hook(resync_hook)], (pre_hooks,))


def _hooks_of_program(hooks: Iterable[Any]) -> list[Any]:
    return [hook for hook in hooks if not isinstance(hook, CaptureHook)]


def warn_fastpath_lost(model: str, module: torch.nn.Module, chosen: set[torch.nn.Module]) -> None:
    """Warn once per model that layers leave their fast path, because modules inside them are recorded.

    Parameters
    ----------
    model
        The name of the model.
    module
        The model.
    chosen
        The modules in it that are recorded.
    """
    for path, layer in module.named_modules():
        if isinstance(layer, torch.nn.TransformerEncoderLayer) and _has_fast_path(layer):
            inner = next((name for name, child in layer.named_modules() if name and child in chosen), None)
            if inner is not None:
                guard.warn_once(
                    f"inside layers of {model}",
                    "flowprov: %s of %s is recorded, so its layer leaves its fast path in inference, as "
                    "with any hook in it. So does each layer that has a recorded module in it. Such a layer "
                    "runs slower, and its results may differ in the last bits from those without capture. "
                    "To keep the path, exclude the modules inside such layers.",
                    f"{path}.{inner}" if path else inner,
                    model,
                )
                return


def _has_fast_path(layer: torch.nn.Module) -> bool:
    attention = getattr(layer, "self_attn", None)
    return bool(getattr(attention, "batch_first", False) and getattr(layer, FUSED_ACTIVATION, 0))
