"""Putting the hooks of capture on a model and its parts, finding them, taking them off.

Flows in: a model and what was chosen of its parts. Flows out: the same model with hooks, or without them.
"""

from __future__ import annotations

import contextlib
import functools

import torch

from flowprov import guard
from flowprov.capture.torch import encoder_fastpath
from flowprov.capture.torch.compile import (
    follow_torch_compile,
    optimized_modules_in,
    original_module,
    unwrap_compiled,
    wrap_compiled,
)
from flowprov.capture.torch.encoding import INSPECTED, PLAIN
from flowprov.capture.torch.hook_registration import hook_dicts, register_hooks
from flowprov.capture.torch.hooks import CapturedModule, CaptureHook, captured_modules_of
from flowprov.capture.torch.model import Model
from flowprov.capture.torch.selection import ModuleSelection, original_name
from flowprov.capture.torch.statistics import MeasuredModule
from flowprov.settings import TorchSettings


def install_hooks(
    module: torch.nn.Module,
    model: Model,
    choice: ModuleSelection | None,
    settings: TorchSettings,
    *,
    complete: bool,
) -> None:
    """Put hooks on a model and on those of its parts that were chosen.

    Parts may be called before the model itself is (Lightning's ``training_step``, the encoder in
    ``generate()``), so they get theirs at once, if the model is complete. Until its first forward parts may
    still be replaced, wrapped and moved: there they are looked through again.
    """
    follow_torch_compile()
    remove_hooks(module)  # of a copy: the hooks that do nothing; of a part of a model: those of a child
    detail = INSPECTED if choice is not None and choice.inspects else PLAIN
    kind = MeasuredModule if settings.tensor_statistics else CapturedModule
    at_first = None if choice is None else functools.partial(install_children, choice, model, kind)
    _install(module, kind(model, "", model.name, detail, at_first), backward=settings.backward)
    if choice is not None and complete:
        install_children(choice, model, kind, module, is_final=False)


def _install(module: torch.nn.Module, captured: CapturedModule, *, backward: bool = False) -> None:
    """Put both hooks on a module, and between them that which watches for its backward."""
    register_hooks(module, captured, backward=backward)
    encoder_fastpath.sync_hook_dict(module)
    wrap_compiled(module)


def install_children(
    choice: ModuleSelection,
    model: Model,
    kind: type[CapturedModule],
    module: torch.nn.Module,
    *,
    is_final: bool = True,
) -> None:
    """Put hooks on the chosen modules in a model, and take them off others that have them.

    What is a captured model itself is left to that. What cannot be recorded is said when all is final.
    """
    with model.first_forward_lock:
        others = [
            each for each in module.modules() if each is not module and captured_model_of(each) is not None
        ]
        foreign = {part for other in others for part in other.modules()}
        detail = (INSPECTED if choice.inspects else PLAIN)._replace(telemetry=choice.measures)
        chosen = {
            child: path for path, child in choice.modules(module, tell=is_final) if child not in foreign
        }
        for part in list(model.captured_children):
            if part not in chosen:
                model.captured_children.discard(part)
                remove_hooks(part, of=model)
        if is_final:
            encoder_fastpath.warn_fastpath_lost(model.name, module, set(chosen))
        for child, path in chosen.items():
            if any(each.model is model and each.path == path for each in captured_modules_of(child)):
                continue
            if not refuses_hooks(child):
                remove_hooks(child, of=model)
                remove_hooks(child, copies_only=True)
                _install(child, kind(model, path, original_name(child), detail))
                model.captured_children.add(child)


def refuses_hooks(module: torch.nn.Module) -> bool:
    """Whether torch lets no hooks be put on a module; says so, once."""
    refuses = isinstance(module, torch.jit.ScriptModule) and type(module).__name__ != "TopLevelTracedModule"
    if refuses:
        guard.warn_once(
            "script modules",
            "flowprov: of modules that torch.jit compiled only those are recorded that it traced, "
            "and nothing inside of them: the others take no hooks.",
        )
    return refuses


def captured_model_of(module: object) -> CapturedModule | None:
    """Give what captures a module as a model of its own, None where nothing does."""
    return next((captured for captured in captured_modules_of(module) if not captured.path), None)


def release_model(module: torch.nn.Module) -> None:
    """Take off the hooks of a model, and those that it has on its parts."""
    module = original_module(module)
    captured = captured_model_of(module)
    remove_hooks(module)
    if captured is not None:
        for part in (*module.modules(), *optimized_modules_in(module)):
            remove_hooks(part, of=captured.model)


def remove_hooks(module: torch.nn.Module, *, of: Model | None = None, copies_only: bool = False) -> None:
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
    for kept in hook_dicts(module):
        for number, hook in list(kept[0].items()):
            if _is_left_over(hook):
                meant = of is None
            else:
                meant = (
                    isinstance(hook, CaptureHook) and not copies_only and of in (None, hook.captured.model)
                )
            if meant:
                for each in kept:
                    each.pop(number, None)
    unwrap_compiled(module)
    encoder_fastpath.sync_hook_dict(module)


def _is_left_over(hook: object) -> bool:
    return getattr(hook, "__func__", None) is contextlib.nullcontext.__exit__
