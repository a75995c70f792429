"""The hooks of a captured module: the hot path of a forward.

Flows in: calls by torch, before and after each forward. Flows out: one line per forward. A hook must not
raise, return anything, read a tensor's contents, or leave a mark in a graph that torch traces.

A pair of hooks is saved and copied as a no-op of the standard library, so that a model that was pickled while
it was captured loads where flowprov is not installed; the copy is not captured.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from types import FrameType
from typing import Any

import torch

from flowprov import context, guard
from flowprov.capture.failures import close_after_fault, close_inner, lost
from flowprov.capture.lines import enclosing, fail, thread_fragment, with_extras, write_end
from flowprov.capture.site import tail_of
from flowprov.capture.torch.model import Model
from flowprov.capture.torch.tensors import Inputs, encode_output, name_outputs
from flowprov.capture.torch.tracing import is_compiling, is_traced
from flowprov.clock import ticks
from flowprov.context import Scope

_get = context.current.get
_set = context.current.set
_thread = threading.get_ident
_frame = sys._getframe  # noqa: SLF001 - the only way to tell one call of a module from another
_exc_info = sys.exc_info

# Epochs whose metadata is kept ready: of other kinds an item may be large, or change.
_KEPT_EPOCHS = frozenset({int, str, type(None)})


class Forward(Scope):
    """The open scope of a forward.

    Attributes
    ----------
    call
        Identity of the frame of ``Module._call_impl`` that runs the forward.
    thread
        The thread that runs it.
    training
        Whether the module was in training mode.
    handled
        The exception that was being handled when it began, which is therefore none of its own.
    """

    call: int = 0
    thread: int = 0
    training: bool = False
    handled: BaseException | None = None


class CapturedModule:
    """What the two hooks of one module share.

    Parameters
    ----------
    model
        The captured model to which the module belongs.
    path
        Path of the module in it, "" for the model itself.
    subtype
        Recorded with each forward.
    """

    __slots__ = ("_fragment", "_inputs", "_model", "_path", "_tails")

    def __init__(self, model: Model, path: str = "", subtype: str = "parent_forward") -> None:
        self._model = model
        self._path = path
        self._fragment = b'%b,"subtype":"%b"' % (model.fragment, subtype.encode())
        self._inputs: Inputs | None = None
        self._tails: tuple[object, bytes, bytes] | None = None

    def begin(
        self,
        parent: Scope,
        previous: Scope | None,
        call: FrameType | None,
        module: torch.nn.Module,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> None:
        """Open the scope of a forward."""
        inputs = self._inputs or self._prepare(parent, module)
        model = self._model
        journal = parent.journal
        thread = _thread()
        number = journal.next_number()
        place = model.links(parent) + self._fragment
        if thread != journal.main_thread:
            place += thread_fragment()
        scope = Forward(
            journal,
            number,
            model.workflow_id or parent.workflow_id,
            place,
            inputs.encode(args, kwargs),
            0,
            0,
            previous,
            parent,
            False,
            parent.forwards,
            parent.epoch,
            site=self,
            call=id(call),
            thread=thread,
            training=module.training,
            handled=_exc_info()[1],
        )
        journal.open_scopes[number] = scope
        _set(scope)
        scope.started = ticks()

    def end(self, scope: Forward, now: int, output: Any) -> None:
        """Record a forward that returned, or raised."""
        error = _exc_info()[1]
        handled, scope.handled = scope.handled, None
        if error is not None and error is not handled:
            fail(scope, error, (), self._metadata(scope.training, scope.epoch))
            return
        if scope.extras is None:
            write_end(scope, now, encode_output(output), self._tail(scope.training, scope.epoch))
        else:
            metadata = self._metadata(scope.training, scope.epoch)
            write_end(scope, now, *with_extras(scope, name_outputs(output), (), metadata))

    def _prepare(self, parent: Scope, module: torch.nn.Module) -> Inputs:
        """Do what is due at the first forward; since the construction ``forward`` may have been replaced."""
        self._model.open(module, parent)
        self._inputs = inputs = Inputs(module.forward)
        return inputs

    def _metadata(self, training: bool, epoch: Any) -> dict[str, Any]:  # noqa: FBT001 - a value to record
        return {
            **self._model.custom_metadata,
            "is_training": training,
            "epoch": epoch,
            "module_path": self._path,
        }

    def _tail(self, training: bool, epoch: Any) -> bytes:  # noqa: FBT001 - a value to record
        tails = self._tails
        if tails is not None and tails[0] is epoch:
            return tails[1] if training else tails[2]
        if epoch.__class__ not in _KEPT_EPOCHS:
            return tail_of((), self._metadata(training, epoch))
        made = (epoch, tail_of((), self._metadata(True, epoch)), tail_of((), self._metadata(False, epoch)))
        self._tails = made
        return made[1] if training else made[2]


class _Hook:
    """Base of both hooks."""

    __slots__ = ("captured",)

    def __init__(self, captured: CapturedModule) -> None:
        self.captured = captured

    def __reduce__(self) -> tuple[Any, ...]:
        return getattr, (contextlib.nullcontext(), "__exit__")


class Before(_Hook):
    """Opens the scope of a forward."""

    __slots__ = ()

    def __call__(self, module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Run before a forward."""
        if is_compiling() or is_traced():
            return
        parent = None
        try:
            call = _frame(1).f_back
            parent = previous = _get()
            if previous.__class__ is Forward:
                parent = previous = _close_abandoned(previous, call)
            if parent is None or parent.muted:
                parent = enclosing(parent)
                if parent is None:
                    return
            if parent.forwards:
                self.captured.begin(parent, previous, call, module, args, kwargs)
        except Exception as error:  # the guard: the forward runs whatever happens to us
            _lost(parent, "recording the start of a forward", error)


class After(_Hook):
    """Closes the scope of a forward and writes its line."""

    __slots__ = ()

    def __call__(
        self, _module: torch.nn.Module, _args: tuple[Any, ...], _kwargs: dict[str, Any], output: Any
    ) -> None:
        """Run after a forward, however it ended."""
        if is_compiling():
            return
        now = ticks()
        captured, scope = self.captured, _get()
        try:
            # The same test as that of _opened_by, which is for what is rare.
            if not (
                scope.__class__ is Forward and scope.site is captured and scope.call == id(_frame(1).f_back)
            ):
                scope = _opened_by(captured, scope, _frame(1))
            if scope is not None:
                captured.end(scope, now, output)
        except Exception as error:  # the guard
            if scope is None:
                guard.fault("recording the end of a forward", error)
            else:
                close_after_fault(scope, "recording the end of a forward", error)


def _opened_by(captured: CapturedModule, scope: Scope | None, frame: FrameType) -> Forward | None:
    """Find the scope that the hook before this very call opened; None where it opened none."""
    # After an exception torch calls hooks from one frame further out than after a forward that returned.
    calls = (id(frame.f_back), id(frame))
    while scope is not None:
        if isinstance(scope, Forward) and scope.site is captured and scope.call in calls:
            return scope
        scope = scope.previous
    return None


def _close_abandoned(scope: Scope | None, call: FrameType | None) -> Scope | None:
    """Close forwards that a KeyboardInterrupt ended: no hook ran then, and they still look current."""
    while isinstance(scope, Forward) and scope.thread == _thread() and not _is_running(scope, call):
        _set(scope.previous)
        close_inner([scope])
        scope = scope.previous
    return scope


def _is_running(scope: Forward, call: FrameType | None) -> bool:
    """Whether the call that opened a scope is on the stack, around the given one."""
    frame = None if call is None else call.f_back
    while frame is not None:
        # A frame may lie where another one was: what it runs decides.
        if id(frame) == scope.call and scope.site is captured_of(frame.f_locals.get("self")):
            return True
        frame = frame.f_back
    return False


def _lost(parent: Scope | None, place: str, error: Exception) -> None:
    if parent is None:
        guard.fault(place, error)
    else:
        lost(parent, place, error)


# -- putting them on, finding them, taking them off ---------------------------------------------------------


def install(module: torch.nn.Module, captured: CapturedModule) -> None:
    """Put both hooks on a module."""
    module.register_forward_pre_hook(Before(captured), with_kwargs=True)
    module.register_forward_hook(After(captured), with_kwargs=True, always_call=True)


def captured_of(module: object) -> CapturedModule | None:
    """Give what captures a module, None where nothing does."""
    for hook in dict(getattr(module, "_forward_pre_hooks", None) or ()).values():
        if isinstance(hook, Before):
            return hook.captured
    return None


def remove(module: torch.nn.Module) -> None:
    """Take off the hooks of a module, those that a copy was left with too."""
    kept_for_pre = (module._forward_pre_hooks, module._forward_pre_hooks_with_kwargs)  # noqa: SLF001 - see below
    kept_for_post = (
        module._forward_hooks,  # noqa: SLF001 - torch gives no other way to the hooks of a copy
        module._forward_hooks_with_kwargs,  # noqa: SLF001 - as above
        module._forward_hooks_always_called,  # noqa: SLF001 - as above
    )
    for kept in (kept_for_pre, kept_for_post):
        for number in [number for number, hook in kept[0].items() if _is_ours(hook)]:
            for each in kept:
                each.pop(number, None)


def _is_ours(hook: object) -> bool:
    return isinstance(hook, _Hook) or getattr(hook, "__func__", None) is contextlib.nullcontext.__exit__
