"""The steps of optimizers as tasks.

Flows in: torch's hooks before and after each step of any optimizer. Flows out: one task record per step, with
the learning rates, the scale of the loss if a ``GradScaler`` calls the step, and the norm of the gradients if
the settings ask for it. Numbers that a device computes follow as a correction of the record.

The hooks are registered when a model is captured and the settings ask for steps. At each step they look at
the settings in force.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, NamedTuple

import msgspec
import torch
from torch.optim.optimizer import (
    Optimizer,
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)

from flowprov import guard
from flowprov.capture.detached_scope import DetachedScope
from flowprov.capture.function_spec import encode
from flowprov.capture.task_records import enclosing_scope, thread_field
from flowprov.capture.torch._torch_private import GRAD_SCALER, GRADIENT_SCALE, LOSS_SCALE
from flowprov.capture.torch.async_values import defer, flush_ready, is_on_host
from flowprov.capture.torch.modes import is_computable, suspended_modes
from flowprov.capture.torch.tracing import is_compiling
from flowprov.locks import create_lock
from flowprov.records import Correction
from flowprov.runtime import context, runtime
from flowprov.runtime.context import Scope, parent_fields_of

SUBTYPE = "optimizer_step"

_get_frame = sys._getframe  # noqa: SLF001 - the only way to tell one call from another
_MAX_GROUPS = 100  # whose learning rates are recorded
_MAX_FRAMES_TO_SCALER = 6  # the scaler's own frames, and those of a scheduler that wraps the step
_installed = False
_lock = create_lock()


class _Step(NamedTuple):
    optimizer_id: int  # unique, as the optimizer is running
    frame_id: int  # of the frame that runs both hooks
    scope: DetachedScope


class _Steps(threading.local):
    """The steps that run in this thread, innermost last. A step that raised stays until the next hook."""

    def __init__(self) -> None:
        self.running: list[_Step] = []


_steps = _Steps()


def install() -> None:
    """Record the steps of all optimizers of this process from now on, where the settings ask for it."""
    global _installed  # noqa: PLW0603 - the hooks are those of the process
    with _lock:
        if not _installed:
            _installed = True
            register_optimizer_step_pre_hook(_before)
            register_optimizer_step_post_hook(_after)


def _before(optimizer: Optimizer, _args: Any, _kwargs: Any) -> None:
    if is_compiling():
        return
    active = runtime.peek()
    if active is None or not active.capturing:
        return
    setting = active.settings.instrumentation.torch.optimizer
    if setting is None:
        return
    try:
        frame = _get_frame(1)
        _abandon_raised_steps(frame)
        if any(step.optimizer_id == id(optimizer) for step in _steps.running):
            return  # a step that calls the step of its base class is one step
        flush_ready()
        parent = context.current.get()
        if parent is None or parent.muted:
            parent = enclosing_scope(parent)
        if parent is not None and parent.forwards:
            scope = _open_step(optimizer, parent, frame, norm=setting == "steps_and_gradient_norm")
            _steps.running.append(_Step(id(optimizer), id(frame), scope))
    except Exception as error:  # the guard: the step is made whatever happens to us
        guard.report_internal_error("recording the start of a step of an optimizer", error)


def _after(_optimizer: Optimizer, _args: Any, _kwargs: Any) -> None:
    if is_compiling() or not _steps.running:
        return
    try:
        frame_id, running = id(_get_frame(1)), _steps.running
        if any(step.frame_id == frame_id for step in running):
            while (step := running.pop()).frame_id != frame_id:
                step.scope.abandon()
            step.scope.end()
    except Exception as error:  # the guard
        guard.report_internal_error("recording the end of a step of an optimizer", error)


def _abandon_raised_steps(frame: FrameType) -> None:
    """Close the steps of this thread that run no more: torch calls no hook after a step that raised."""
    running = _steps.running
    if not running:
        return
    on_stack = set()
    outer = frame.f_back
    while outer is not None:
        if outer.f_code is frame.f_code:
            on_stack.add(id(outer))
        outer = outer.f_back
    while running and running[-1].frame_id not in on_stack:
        running.pop().scope.abandon()


def _open_step(optimizer: Optimizer, parent: Scope, frame: FrameType, *, norm: bool) -> DetachedScope:
    line_prefix = (parent.parent_fields or parent_fields_of(parent)) + b',"activity_id":%b,"subtype":"%b"' % (
        msgspec.json.encode(type(optimizer).__name__),
        SUBTYPE.encode(),
    )
    if threading.get_ident() != parent.journal.main_thread:
        line_prefix += thread_field()
    with suspended_modes():
        used, pending = _read_numbers(_describe_step(optimizer, frame, norm=norm))
        scope = DetachedScope(parent, line_prefix, encode(_fill_in(used, None)))
        if pending:
            key = scope.scope.key
            numbers = torch.stack([tensor.detach().reshape(()).to(torch.float32) for tensor in pending])

            def create_correction(arrived: list[float]) -> Correction:
                complete: Any = msgspec.Raw(encode(_fill_in(used, iter(arrived))))
                return Correction(task_id=key, used=complete)  # type: ignore[arg-type]

            defer(parent, numbers, create_correction)
    return scope


def _describe_step(optimizer: Optimizer, frame: FrameType, *, norm: bool) -> dict[str, Any]:
    """Return what a step uses: numbers, and tensors that hold one number."""
    groups = optimizer.param_groups
    used: dict[str, Any] = {
        "param_groups": len(groups),
        "lr": [group.get("lr") for group in groups[:_MAX_GROUPS]],
    }
    scale = _loss_scale(frame)
    if scale is not None:
        used["loss_scale"] = scale
    if norm and (gradient_norm := _gradient_norm(optimizer)) is not None:
        used["gradient_norm"] = gradient_norm
    return used


class _Pending:
    """Stands for a number that a device computes."""


_PENDING = _Pending()


def _read_numbers(used: dict[str, Any]) -> tuple[dict[str, Any], list[torch.Tensor]]:
    """Replace tensors by their numbers, and by a placeholder where reading would wait for a device.

    Returns
    -------
    tuple
        What a step uses, and the tensors that the placeholders stand for, in their order.
    """
    pending: list[torch.Tensor] = []

    def read(value: Any) -> Any:
        if not isinstance(value, torch.Tensor):
            return value
        if value.numel() != 1 or not is_computable(value):
            return None
        if is_on_host(value):
            return value.item()
        pending.append(value)
        return _PENDING

    numbers = {name: [*map(read, v)] if isinstance(v, list) else read(v) for name, v in used.items()}
    for first in pending[:1]:
        if any(tensor.device != first.device for tensor in pending):
            pending[:] = [tensor.to(first.device, non_blocking=True) for tensor in pending]
    return numbers, pending


def _fill_in(used: dict[str, Any], numbers: Iterator[float] | None) -> dict[str, Any]:
    """Replace the placeholders by the numbers that arrived, or by None while there are none."""

    def fill(value: Any) -> Any:
        if value is _PENDING:
            return None if numbers is None else next(numbers)
        return value

    return {name: [*map(fill, v)] if isinstance(v, list) else fill(v) for name, v in used.items()}


def _gradient_norm(optimizer: Optimizer) -> torch.Tensor | None:
    """Compute the norm of all gradients together; None where some are sparse, or have contents elsewhere."""
    parameters = (parameter for group in optimizer.param_groups for parameter in group["params"])
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    gradients = [grad for grad in gradients if grad.layout is not torch.strided or grad.numel()]
    if not gradients or not all(map(is_computable, gradients)):
        return None
    norm: torch.Tensor = _total_norm(gradients)
    # An optimizer that unscales the gradients itself has this tensor from the scaler.
    scale = getattr(optimizer, GRADIENT_SCALE, None)
    if isinstance(scale, torch.Tensor):
        norm = norm.div(scale.to(norm.device))
    return norm


def _norm_of_norms(tensors: list[torch.Tensor]) -> torch.Tensor:
    first = tensors[0].device
    norms = [torch.linalg.vector_norm(tensor).to(first, torch.float32) for tensor in tensors]
    norm: torch.Tensor = torch.linalg.vector_norm(torch.stack(norms))
    return norm


# The function of torch, which there is since 2.6, computes many norms at once.
_total_norm: Callable[[list[torch.Tensor]], torch.Tensor] = getattr(
    torch.nn.utils, "get_total_norm", _norm_of_norms
)


def _loss_scale(frame: FrameType) -> torch.Tensor | None:
    """Find the scale of the GradScaler that calls a step: the scaler is in one of the frames around."""
    outer = frame.f_back
    for _ in range(_MAX_FRAMES_TO_SCALER):
        if outer is None:
            return None
        # The variables of other frames are not read: that may prolong the life of what they hold.
        if outer.f_globals.get("__name__", "").endswith(GRAD_SCALER):
            scaler = outer.f_locals.get("self")
            if isinstance(scaler, torch.amp.GradScaler):
                return getattr(scaler, LOSS_SCALE, None)
        outer = outer.f_back
    return None
