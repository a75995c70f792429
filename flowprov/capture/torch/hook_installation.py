"""Put the hooks of capture on a model and its child modules; ``hook_removal`` takes them off.

Flows in: a model, and which of its modules are recorded. Flows out: the same model with hooks.
"""

from __future__ import annotations

import functools

import torch

from flowprov import guard
from flowprov.capture.torch import encoder_fastpath
from flowprov.capture.torch._torch_private import TRACED_MODULE
from flowprov.capture.torch.backward import can_record_backward
from flowprov.capture.torch.captured_module import CapturedModule, UnrecordedModule
from flowprov.capture.torch.compile import follow_torch_compile, wrap_compiled
from flowprov.capture.torch.encoding import INSPECTED, PLAIN
from flowprov.capture.torch.hook_registration import register_hooks
from flowprov.capture.torch.hook_removal import captured_model_of, remove_hooks
from flowprov.capture.torch.hooks import captured_modules_of
from flowprov.capture.torch.model import Model
from flowprov.capture.torch.selection import ModuleSelection, original_name
from flowprov.capture.torch.statistics import MeasuredModule
from flowprov.settings import TorchSettings


def install_hooks(
    module: torch.nn.Module,
    model: Model,
    selection: ModuleSelection | None,
    settings: TorchSettings,
    *,
    records_forwards: bool,
    complete: bool,
) -> None:
    """Put hooks on a model and on the chosen modules in it.

    Child modules may be called before the model itself is (in Lightning's ``training_step``, or the encoder
    in ``generate()``), so they get their hooks at once if the model is complete. They may still be replaced,
    wrapped and moved until the first forward of the model, so they are looked through again then.

    Parameters
    ----------
    module
        The model.
    model
        What belongs to it.
    selection
        Which modules in it are recorded; None: none.
    settings
        The settings in force.
    records_forwards
        Whether forwards are recorded, and not only the workflow of the model.
    complete
        Whether its construction is complete.
    """
    follow_torch_compile()
    remove_hooks(module)  # of a copy, whose hooks do nothing; and of a child of another model
    detail = INSPECTED if selection is not None and selection.inspects_tensors else PLAIN
    cls: type[CapturedModule] = MeasuredModule if settings.tensor_statistics else CapturedModule
    if not records_forwards:
        cls = UnrecordedModule
    before_first_forward = (
        None if selection is None else functools.partial(install_children, selection, model, cls)
    )
    captured = cls(model, "", model.name, detail, before_first_forward)
    backward = settings.backward and records_forwards and can_record_backward()
    _install(module, captured, backward=backward)
    if selection is not None and complete:
        install_children(selection, model, cls, module, is_final=False)


def _install(module: torch.nn.Module, captured: CapturedModule, *, backward: bool = False) -> None:
    """Put the hooks of one module on it, and keep its fast path and its compiled forms recorded."""
    register_hooks(module, captured, backward=backward)
    encoder_fastpath.sync_hook_dict(module)
    wrap_compiled(module)


def install_children(
    selection: ModuleSelection,
    model: Model,
    cls: type[CapturedModule],
    module: torch.nn.Module,
    *,
    is_final: bool = True,
) -> None:
    """Put hooks on the chosen modules in a model, and take them off modules that are no longer chosen.

    A module in it that is itself a captured model keeps its own hooks, and so do the modules in that.

    Parameters
    ----------
    selection
        Which modules are recorded.
    model
        What belongs to the model.
    cls
        The class of the captures.
    module
        The model.
    is_final
        Whether this is the last time; then warnings say what cannot be recorded.
    """
    with model.first_forward_lock:
        inner_models = [
            child
            for child in module.modules()
            if child is not module and captured_model_of(child) is not None
        ]
        in_other_models = {child for inner_model in inner_models for child in inner_model.modules()}
        detail = (INSPECTED if selection.inspects_tensors else PLAIN)._replace(
            telemetry=selection.reads_telemetry
        )
        chosen = {
            child: path
            for path, child in selection.modules(module, warn=is_final)
            if child not in in_other_models
        }
        for child in list(model.captured_children):
            if child not in chosen:
                model.captured_children.discard(child)
                remove_hooks(child, of=model)
        if is_final:
            encoder_fastpath.warn_fastpath_lost(model.name, module, set(chosen))
        for child, path in chosen.items():
            if any(other.model is model and other.path == path for other in captured_modules_of(child)):
                continue
            if not refuses_hooks(child):
                remove_hooks(child, of=model)
                remove_hooks(child, copies_only=True)
                _install(child, cls(model, path, original_name(child), detail))
                model.captured_children.add(child)


def refuses_hooks(module: torch.nn.Module) -> bool:
    """Whether torch lets no hooks be put on a module; warns once if so."""
    refuses = isinstance(module, torch.jit.ScriptModule) and type(module).__name__ != TRACED_MODULE
    if refuses:
        guard.warn_once(
            "script modules",
            "flowprov records no script modules of torch.jit, as they take no hooks. A module that "
            "torch.jit.trace made is recorded, and nothing inside of it.",
        )
    return refuses
