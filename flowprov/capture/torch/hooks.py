"""The hooks of a captured module: the hot path of a forward.

Flows in: calls by torch, before and after each forward. Flows out: one line per forward. A hook must not
raise, return anything, read a tensor's contents, or leave a mark in a graph that torch traces.

Hooks are pickled and copied as a function of the standard library that does nothing. So a model that was
pickled while it was captured loads where flowprov is not installed, and a copy is not captured.
"""

from __future__ import annotations

import contextlib
import sys
from types import FrameType
from typing import Any

import torch

from flowprov import guard
from flowprov.capture.failures import close_after_fault, close_all_abandoned, count_lost_event
from flowprov.capture.task_records import enclosing_scope
from flowprov.capture.torch._torch_private import FORWARD_HOOKS, FORWARD_PRE_HOOKS, is_traced
from flowprov.capture.torch.captured_module import CapturedModule, Forward
from flowprov.capture.torch.tracing import is_compiling, warn_if_inlined
from flowprov.clock import ticks
from flowprov.runtime import context
from flowprov.runtime.context import Scope

_get_current = context.current.get
_set_current = context.current.set
_get_frame = sys._getframe  # noqa: SLF001 - the only way to tell one call of a module from another

# Tools that replace a module copy its hooks, and forget that these take keywords.
_NO_KWARGS: dict[str, Any] = {}
_MISSING = object()


class CaptureHook:
    """Base of the hooks of capture."""

    __slots__ = ("captured",)

    def __init__(self, captured: CapturedModule) -> None:
        self.captured = captured

    def __reduce__(self) -> tuple[Any, ...]:
        return getattr, (contextlib.nullcontext(), "__exit__")


class ForwardPreHook(CaptureHook):
    """Opens the scope of a forward.

    Parameters
    ----------
    captured
        The capture of the module.
    partner
        The hook that closes the scope. Nothing is opened where that is not on the same module: other tools
        may move one of the two, or take it off. None where the caller calls both.
    number
        Under which torch keeps the partner; it is only where to look first.
    """

    __slots__ = ("number", "partner")

    def __init__(self, captured: CapturedModule, partner: ForwardHook | None = None, number: int = 0) -> None:
        super().__init__(captured)
        self.partner = partner
        self.number = number

    def __call__(
        self, module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any] = _NO_KWARGS
    ) -> None:
        """Run before a forward."""
        if is_compiling():
            warn_if_inlined(self)
            return
        if is_traced():
            return
        parent = None
        try:
            captured, partner = self.captured, self.partner
            if (
                partner is not None
                and getattr(module, FORWARD_HOOKS, _NO_KWARGS).get(self.number) is not partner
                and not has_partner(self, module)
            ):
                _warn_parted(captured)
                return
            frame = _get_frame(1).f_back
            parent = previous = _get_current()
            if previous.__class__ is Forward:
                parent = previous = _close_abandoned(previous, frame)
                if (
                    previous.__class__ is Forward
                    and previous.opener.inner is not None  # type: ignore[attr-defined]
                    and _is_recorded_around(previous, captured)
                ):
                    return
            if parent is None or parent.muted:
                parent = enclosing_scope(parent)
                if parent is None:
                    return
            if parent.forwards and (not captured.path or _is_called_in_its_model(captured, module, previous)):
                captured.open_forward(parent, previous, frame, module, args, kwargs)
        except Exception as error:  # the guard: the forward runs whatever happens to us
            _count_lost(parent, "recording the start of a forward", error)


class ForwardHook(CaptureHook):
    """Closes the scope of a forward and writes its line."""

    __slots__ = ()

    def __call__(
        self, _module: torch.nn.Module, _args: tuple[Any, ...], kwargs: Any, output: Any = _MISSING
    ) -> None:
        """Run after a forward that returned or raised."""
        if is_compiling():
            return
        if output is _MISSING:
            output = kwargs
        captured, scope = self.captured, None
        try:
            now, scope = ticks(), _get_current()
            # The first test of forward_opened_by, written out as it nearly always holds.
            if not (
                scope.__class__ is Forward
                and scope.opener is captured
                and scope.frame is _get_frame(1).f_back
            ):
                scope = forward_opened_by(captured, scope, _get_frame(1))
            if scope is not None:
                captured.close_forward(scope, now, output)
        except BaseException as error:  # the guard; what came from outside passes on from there
            if scope is None:
                guard.report_internal_error("recording the end of a forward", error)
            else:
                close_after_fault(scope, "recording the end of a forward", error)


def forward_opened_by(captured: CapturedModule, scope: Scope | None, frame: FrameType) -> Forward | None:
    """Find the scope that the pre-hook of this very call opened; None where it opened none."""
    # After an exception torch calls hooks from one frame further out than after a forward that returned.
    frames = (frame.f_back, frame)
    while scope is not None:
        if isinstance(scope, Forward) and scope.opener is captured and scope.frame in frames:
            return scope
        scope = scope.previous
    return None


def _is_called_in_its_model(captured: CapturedModule, module: torch.nn.Module, current: Scope | None) -> bool:
    """Whether its model records this forward of a child: several models may share a module."""
    scope = current
    while scope is not None:
        if isinstance(scope, Forward) and isinstance(scope.opener, CapturedModule):
            return scope.opener.model is captured.model
        scope = scope.previous
    first = captured_modules_of(module)[0]  # the child was called by itself: one of the models records it
    return first is captured or first is captured.inner


def _is_recorded_around(scope: Forward, captured: CapturedModule) -> bool:
    """Whether a compiled forward is recorded already: its hooks may run at up to three places."""
    outer: Any = scope.opener
    # From outside to inside, each place but once: a module may call itself.
    if (captured is outer and scope.inner_seen is None) or (
        captured is outer.inner and scope.inner_seen is not captured
    ):
        scope.inner_seen = captured
        return True
    scope.child_seen = True
    return False


def _close_abandoned(scope: Scope | None, frame: FrameType | None) -> Scope | None:
    """Close forwards that a KeyboardInterrupt ended: no hook ran then, so they are still current."""
    while isinstance(scope, Forward) and not scope.is_running(frame):
        _set_current(scope.previous)
        close_all_abandoned([scope])
        scope = scope.previous
    return scope


def has_partner(hook: ForwardPreHook, module: object) -> bool:
    """Whether the hook that closes what a hook opens is on the module too."""
    hooks = getattr(module, FORWARD_HOOKS, None)
    return hooks is None or any(other is hook.partner for other in list(hooks.values()))


def _warn_parted(captured: CapturedModule) -> None:
    guard.warn_once(
        f"parted hooks of {captured.model.name}",
        "flowprov: the forwards of %s in %s are not recorded any more. Something moved or removed one of the "
        "two hooks of flowprov (torch.ao.quantization.fuse_modules does, or clearing them all). To have "
        "them recorded, release and capture the model again. This is said once per model.",
        captured.path or "the model itself",
        captured.model.name,
    )


def _count_lost(parent: Scope | None, activity: str, error: Exception) -> None:
    if parent is None:
        guard.report_internal_error(activity, error)
    else:
        count_lost_event(parent, activity, error)


def captured_modules_of(module: object) -> list[CapturedModule]:
    """Return the captures of a module: one for each model that records it, as a child or as the model."""
    hooks = dict(getattr(module, FORWARD_PRE_HOOKS, None) or ()).values()
    return [hook.captured for hook in hooks if isinstance(hook, ForwardPreHook) and has_partner(hook, module)]
