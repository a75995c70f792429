"""The steps of optimizers as tasks.

Flows in: torch's hooks before and after each step of any optimizer. Flows out: one task record per step,
with the learning rates, the scale of the loss where a ``GradScaler`` drives the step, and the norm of the
gradients where it is asked for. What a device computes of these follows as a correction of the record.

The hooks are put on when a model is captured and the settings ask for steps, and look at the settings in
force at each step.
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
from flowprov.capture.recorder import enclosing_scope, thread_field
from flowprov.capture.torch.async_values import defer, flush_ready, is_on_host
from flowprov.capture.torch.modes import is_computable, suspended_modes
from flowprov.capture.torch.tracing import is_compiling
from flowprov.records import Correction
from flowprov.runtime import context, runtime
from flowprov.runtime.context import Scope, parent_fields_of

SUBTYPE = "optimizer_step"

_frame = sys._getframe  # noqa: SLF001 - the only way to tell one call from another
_MOST_GROUPS = 100  # whose learning rates are recorded
_SCALER_WITHIN = 6  # frames: the scaler's own, and those of a scheduler that wraps the step
_installed = False
_lock = threading.Lock()


class _Step(NamedTuple):
    optimizer: int  # its identity: it is running, so nothing else has it
    call: int  # identity of the frame that runs both hooks
    span: DetachedScope


class _Steps(threading.local):
    """The steps that run in this thread, innermost last, and those that raised since the last look."""

    def __init__(self) -> None:
        self.running: list[_Step] = []


_steps = _Steps()


def install() -> None:
    """Have the steps of all optimizers of this process recorded, as far as the settings ask for it."""
    global _installed  # noqa: PLW0603 - the hooks are those of the process
    with _lock:
        if not _installed:
            _installed = True
            register_optimizer_step_pre_hook(_before)
            register_optimizer_step_post_hook(_after)


def _before(optimizer: Optimizer, _args: Any, _kwargs: Any) -> None:
    if is_compiling():
        return
    held = runtime.peek()
    if held is None or not held.capturing:
        return
    wanted = held.settings.instrumentation.torch.optimizer
    if wanted is None:
        return
    try:
        call = _frame(1)
        _give_up_what_raised(call)
        if any(each.optimizer == id(optimizer) for each in _steps.running):
            return  # a step that calls that of its base class is one step
        flush_ready()
        parent = context.current.get()
        if parent is None or parent.muted:
            parent = enclosing_scope(parent)
        if parent is not None and parent.forwards:
            span = _begin(optimizer, parent, call, norm=wanted == "steps_and_gradient_norm")
            _steps.running.append(_Step(id(optimizer), id(call), span))
    except Exception as error:  # the guard: the step is made whatever happens to us
        guard.report_internal_error("recording the start of a step of an optimizer", error)


def _after(_optimizer: Optimizer, _args: Any, _kwargs: Any) -> None:
    if is_compiling() or not _steps.running:
        return
    try:
        call, running = id(_frame(1)), _steps.running
        if any(each.call == call for each in running):
            while (step := running.pop()).call != call:
                step.span.abandon()
            step.span.end()
    except Exception as error:  # the guard
        guard.report_internal_error("recording the end of a step of an optimizer", error)


def _give_up_what_raised(call: FrameType) -> None:
    """Close steps of this thread that do not run any more: after an exception torch calls no hook."""
    running = _steps.running
    if not running:
        return
    around = set()
    frame = call.f_back
    while frame is not None:
        if frame.f_code is call.f_code:
            around.add(id(frame))
        frame = frame.f_back
    while running and running[-1].call not in around:
        running.pop().span.abandon()


def _begin(optimizer: Optimizer, parent: Scope, call: FrameType, *, norm: bool) -> DetachedScope:
    place = (parent.parent_fields or parent_fields_of(parent)) + b',"activity_id":%b,"subtype":"%b"' % (
        msgspec.json.encode(type(optimizer).__name__),
        SUBTYPE.encode(),
    )
    if threading.get_ident() != parent.journal.main_thread:
        place += thread_field()
    with suspended_modes():
        used, awaited = _read(_describe(optimizer, call, norm=norm))
        span = DetachedScope(parent, place, encode(_filled(used, None)))
        if awaited:
            key = span.scope.key
            numbers = torch.stack([each.detach().reshape(()).to(torch.float32) for each in awaited])

            def correct(arrived: list[float]) -> Correction:
                given: Any = msgspec.Raw(encode(_filled(used, iter(arrived))))
                return Correction(task_id=key, used=given)  # type: ignore[arg-type]

            defer(parent, numbers, correct)
    return span


def _describe(optimizer: Optimizer, call: FrameType, *, norm: bool) -> dict[str, Any]:
    """Say what a step uses: numbers, and tensors that hold one."""
    groups = optimizer.param_groups
    used: dict[str, Any] = {
        "param_groups": len(groups),
        "lr": [group.get("lr") for group in groups[:_MOST_GROUPS]],
    }
    scale = _loss_scale(call)
    if scale is not None:
        used["loss_scale"] = scale
    if norm and (found := _gradient_norm(optimizer)) is not None:
        used["gradient_norm"] = found
    return used


class _Awaited:
    """Stands for a number that a device computes."""


_AWAITED = _Awaited()


def _read(used: dict[str, Any]) -> tuple[dict[str, Any], list[torch.Tensor]]:
    """Put numbers in the place of tensors that can be read without waiting, and take the others out."""
    awaited: list[torch.Tensor] = []

    def read(value: Any) -> Any:
        if not isinstance(value, torch.Tensor):
            return value
        if value.numel() != 1 or not is_computable(value):
            return None
        if is_on_host(value):
            return value.item()
        awaited.append(value)
        return _AWAITED

    made = {name: [*map(read, v)] if isinstance(v, list) else read(v) for name, v in used.items()}
    for first in awaited[:1]:
        if any(each.device != first.device for each in awaited):
            awaited[:] = [each.to(first.device, non_blocking=True) for each in awaited]
    return made, awaited


def _filled(used: dict[str, Any], numbers: Iterator[float] | None) -> dict[str, Any]:
    """Put the numbers that arrived in their places; while there are none, None."""

    def fill(value: Any) -> Any:
        if value is _AWAITED:
            return None if numbers is None else next(numbers)
        return value

    return {name: [*map(fill, v)] if isinstance(v, list) else fill(v) for name, v in used.items()}


def _gradient_norm(optimizer: Optimizer) -> torch.Tensor | None:
    """Compute the norm of all gradients together; None where some are sparse or lie elsewhere as well."""
    parameters = (parameter for group in optimizer.param_groups for parameter in group["params"])
    gradients = [each.grad for each in parameters if each.grad is not None]
    gradients = [each for each in gradients if each.layout is not torch.strided or each.numel()]
    if not gradients or not all(map(is_computable, gradients)):
        return None
    norm: torch.Tensor = _total_norm(gradients)
    # Of an optimizer that is to unscale them itself: a tensor that the scaler has put there.
    scale = getattr(optimizer, "grad_scale", None)
    if isinstance(scale, torch.Tensor):
        norm = norm.div(scale.to(norm.device))
    return norm


def _norm_of_norms(tensors: list[torch.Tensor]) -> torch.Tensor:
    first = tensors[0].device
    norms = [torch.linalg.vector_norm(each).to(first, torch.float32) for each in tensors]
    norm: torch.Tensor = torch.linalg.vector_norm(torch.stack(norms))
    return norm


# Torch's own, since 2.6, computes many at once.
_total_norm: Callable[[list[torch.Tensor]], torch.Tensor] = getattr(
    torch.nn.utils, "get_total_norm", _norm_of_norms
)


def _loss_scale(call: FrameType) -> torch.Tensor | None:
    """Find the scale of the GradScaler that drives a step: it is among the callers."""
    frame = call.f_back
    for _ in range(_SCALER_WITHIN):
        if frame is None:
            return None
        # Other frames are not asked: to look at their variables may prolong the life of these.
        if frame.f_globals.get("__name__", "").endswith("grad_scaler"):
            scaler = frame.f_locals.get("self")
            if isinstance(scaler, torch.amp.GradScaler):
                return scaler._scale  # noqa: SLF001 - get_scale() waits for the device
        frame = frame.f_back
    return None
