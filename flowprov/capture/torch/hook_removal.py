"""Take the hooks of capture off a model and its child modules, and find the capture of a module.

Flows in: a model. Flows out: the same model without hooks of ours, and without a trace of them.
"""

from __future__ import annotations

import contextlib

import torch

from flowprov.capture.torch import encoder_fastpath
from flowprov.capture.torch._torch_private import hook_dicts
from flowprov.capture.torch.captured_module import CapturedModule
from flowprov.capture.torch.compile import optimized_modules_in, original_module, unwrap_compiled
from flowprov.capture.torch.hooks import CaptureHook, captured_modules_of
from flowprov.capture.torch.model import Model


def captured_model_of(module: object) -> CapturedModule | None:
    """Return the capture of a module as a model of its own; None if there is none."""
    return next((captured for captured in captured_modules_of(module) if not captured.path), None)


def release_model(module: torch.nn.Module) -> None:
    """Take off the hooks of a model, and those that it has on its child modules."""
    module = original_module(module)
    hooks = [
        hook for dicts in hook_dicts(module) for hook in dicts[0].values()
    ]  # one may be without the other
    models = {
        hook.captured.model for hook in hooks if isinstance(hook, CaptureHook) and not hook.captured.path
    }
    remove_hooks(module)
    for model in models:
        for child in (*module.modules(), *optimized_modules_in(module)):
            remove_hooks(child, of=model)
            remove_hooks(child, copies_only=True)  # which a tool made that copies modules in it


def remove_hooks(module: torch.nn.Module, *, of: Model | None = None, copies_only: bool = False) -> None:
    """Take off hooks of a module, also those that a copy was left with.

    Parameters
    ----------
    module
        The module.
    of
        Take off only hooks of this model.
    copies_only
        Take off only hooks that do nothing.
    """
    for dicts in hook_dicts(module):
        for number, hook in list(dicts[0].items()):
            if _is_copied_hook(hook):
                matches = of is None
            else:
                matches = (
                    isinstance(hook, CaptureHook) and not copies_only and of in (None, hook.captured.model)
                )
            if matches:
                for hooks in dicts:
                    hooks.pop(number, None)
    unwrap_compiled(module)
    encoder_fastpath.sync_hook_dict(module)


def _is_copied_hook(hook: object) -> bool:
    """Whether a hook is what a hook of capture becomes in a copy of a model: it does nothing."""
    return getattr(hook, "__func__", None) is contextlib.nullcontext.__exit__
