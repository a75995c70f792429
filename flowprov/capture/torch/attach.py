"""Putting the hooks of capture on a model and its parts, finding them, taking them off.

Flows in: a model and what was chosen of its parts. Flows out: the same model with hooks, or without them.
"""

from __future__ import annotations

import contextlib
import functools
from typing import Any

import torch

from flowprov import guard
from flowprov.capture.torch import unseen
from flowprov.capture.torch.choice import Choice, original_name
from flowprov.capture.torch.hooks import After, Before, CapturedModule, Hook, captures_of
from flowprov.capture.torch.model import Model
from flowprov.capture.torch.tensors import INSPECTED, PLAIN


def attach(module: torch.nn.Module, model: Model, choice: Choice | None) -> None:
    """Put hooks on a model, and at its first forward on those of its parts that were chosen.

    Not earlier: between construction and first forward parts are replaced, wrapped and shared.
    """
    remove(module)  # of a copy: the hooks that do nothing; of a part of a model: those of a child
    detail = INSPECTED if choice is not None and choice.inspects else PLAIN
    at_first = None if choice is None else functools.partial(install_children, choice, model)
    _install(module, CapturedModule(model, "", model.name, detail, at_first))


def _install(module: torch.nn.Module, captured: CapturedModule) -> None:
    """Put both hooks on a module."""
    if isinstance(module, torch.nn.TransformerEncoderLayer):
        unseen.prepare(module, _is_ours)
    before = module.register_forward_pre_hook(Before(captured), with_kwargs=True)
    after = module.register_forward_hook(After(captured), with_kwargs=True, always_call=True)
    # In a process that loads a saved model torch numbers hooks from 0 again. One of the program's that came
    # by the number of ours would be called in the manner of ours, with keyword arguments.
    for handle, kept in zip((before, after), _mappings(module), strict=True):
        for each in kept:
            each[-1 - handle.id] = each.pop(handle.id)


def _mappings(module: torch.nn.Module) -> tuple[tuple[dict[int, Any], ...], ...]:
    """Give where torch keeps hooks of a module and what it knows of them: of those before, of those after."""
    return tuple(tuple(getattr(module, name) for name in names) for names in _NAMES)  # torch has no other way


_NAMES = (
    ("_forward_pre_hooks", "_forward_pre_hooks_with_kwargs"),
    ("_forward_hooks", "_forward_hooks_with_kwargs", "_forward_hooks_always_called"),
)


def install_children(choice: Choice, model: Model, module: torch.nn.Module) -> None:
    """Put hooks on the chosen modules in a model; what is a captured model itself is left to that."""
    with model.preparing:
        parts = (captured for part in module.modules() for captured in captures_of(part))
        if any(captured.path and captured.model is model for captured in parts):
            return  # another thread was first
        others = [each for each in module.modules() if each is not module and captured_of(each) is not None]
        foreign = {part for other in others for part in other.modules()}
        detail = INSPECTED if choice.inspects else PLAIN
        chosen = [(path, child) for path, child in choice.modules(module) if child not in foreign]
        unseen.say_what_is_seen(model.name, module, {child for _, child in chosen})
        for path, child in chosen:
            if not takes_no_hooks(child):
                remove(child, copies_only=True)
                _install(child, CapturedModule(model, path, original_name(child), detail))


def takes_no_hooks(module: torch.nn.Module) -> bool:
    """Whether torch lets no hooks be put on a module; says so, once."""
    refuses = isinstance(module, torch.jit.ScriptModule) and type(module).__name__ != "TopLevelTracedModule"
    if refuses:
        guard.say_once(
            "script modules",
            "flowprov: of modules that torch.jit compiled only those are recorded that it traced, "
            "and nothing inside of them: the others take no hooks.",
        )
    return refuses


def captured_of(module: object) -> CapturedModule | None:
    """Give what captures a module as a model of its own, None where nothing does."""
    return next((captured for captured in captures_of(module) if not captured.path), None)


def release(module: torch.nn.Module) -> None:
    """Take off the hooks of a model, and those that it has on its parts."""
    captured = captured_of(module)
    remove(module)
    if captured is not None:
        for part in module.modules():
            remove(part, of=captured.model)


def remove(module: torch.nn.Module, *, of: Model | None = None, copies_only: bool = False) -> None:
    """Take off hooks of a module, those that a copy was left with too.

    Parameters
    ----------
    module
        The module.
    of
        Only those of this model.
    copies_only
        Only those that do nothing.
    """
    for kept in _mappings(module):
        for number, hook in list(kept[0].items()):
            if _is_left_over(hook):
                meant = of is None
            else:
                meant = isinstance(hook, Hook) and not copies_only and of in (None, hook.captured.model)
            if meant:
                for each in kept:
                    each.pop(number, None)
    unseen.restore(module)


def _is_left_over(hook: object) -> bool:
    return getattr(hook, "__func__", None) is contextlib.nullcontext.__exit__


def _is_ours(hook: object) -> bool:
    return isinstance(hook, Hook)  # no more than Dynamo can follow; what was left over is removed before
