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
from collections.abc import Callable
from types import FrameType
from typing import Any

import torch

from flowprov import context, guard
from flowprov.capture.failures import close_after_fault, close_inner, lost
from flowprov.capture.lines import enclosing, fail, thread_fragment, with_extras, write_end
from flowprov.capture.site import tail_of
from flowprov.capture.torch.model import Model
from flowprov.capture.torch.modes import Mode, describe, mode_of, rank_of_process_group
from flowprov.capture.torch.tensors import Detail, Inputs, encode_output, name_outputs
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
    mode
        Under which modes it runs (see :func:`flowprov.capture.torch.modes.current`).
    handled
        The exception that was being handled when it began, which is therefore none of its own.
    """

    call: int = 0
    thread: int = 0
    mode: Mode = ()
    handled: BaseException | None = None


class CapturedModule:
    """What the two hooks of one module share.

    Parameters
    ----------
    model
        The captured model to which the module belongs.
    path
        Path of the module in it, "" for the model itself.
    name
        Of the activity: that of the module's class.
    detail
        How much is kept of its inputs and outputs.
    at_first
        Called with the module before its first forward is recorded.

    Attributes
    ----------
    model, path
        As above.
    """

    __slots__ = ("_at_first", "_detail", "_epoch", "_fragment", "_inputs", "_tails", "model", "path")

    def __init__(
        self,
        model: Model,
        path: str,
        name: str,
        detail: Detail,
        at_first: Callable[[torch.nn.Module], None] | None = None,
    ) -> None:
        self.model = model
        self.path = path
        self._fragment = model.fragment(name, "child_forward" if path else "parent_forward")
        self._detail = detail
        self._at_first = at_first
        self._inputs: Inputs | None = None
        self._epoch: object = None
        self._tails: dict[Mode, bytes] = {}

    def is_called_in_its_model(self, module: torch.nn.Module, current: Scope | None) -> bool:
        """Whether a forward of a child belongs to this model: several may share a module."""
        scope = current
        while scope is not None:
            if isinstance(scope, Forward) and isinstance(scope.site, CapturedModule):
                return scope.site.model is self.model
            scope = scope.previous
        return captures_of(module)[0] is self  # called by itself: one of the models records it

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
        model = self.model
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
            inputs.encode(args, kwargs, self._detail),
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
            mode=mode_of(module),
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
            metadata = self._metadata(scope.mode, scope.epoch)
            if isinstance(error, torch.OutOfMemoryError):
                metadata["out_of_memory"] = True
            fail(scope, error, (), metadata)
            return
        if scope.extras is None:
            write_end(scope, now, encode_output(output, self._detail), self._tail(scope.mode, scope.epoch))
        else:
            metadata = self._metadata(scope.mode, scope.epoch)
            write_end(scope, now, *with_extras(scope, name_outputs(output), (), metadata))

    def _prepare(self, parent: Scope, module: torch.nn.Module) -> Inputs:
        """Do what is due at the first forward; since the construction parts may have been replaced."""
        if not self.path:
            self.model.open(module, parent)
            if self._at_first is not None:
                self._at_first(module)
        if parent.journal.identity.rank is None and (rank := rank_of_process_group()) is not None:
            fragment, told = self._fragment, b',"rank":%d' % rank
            self._fragment = fragment.removesuffix(told) + told  # once, where threads meet here
        self._inputs = inputs = Inputs(module.forward)
        return inputs

    def _metadata(self, mode: Mode, epoch: Any) -> dict[str, Any]:
        return {**self.model.custom_metadata, **describe(mode), "epoch": epoch, "module_path": self.path}

    def _tail(self, mode: Mode, epoch: Any) -> bytes:
        if self._epoch is not epoch:
            if epoch.__class__ not in _KEPT_EPOCHS:
                return tail_of((), self._metadata(mode, epoch))
            self._epoch, self._tails = epoch, {}
        tail = self._tails.get(mode)
        if tail is None:
            tail = self._tails[mode] = tail_of((), self._metadata(mode, epoch))
        return tail


class Hook:
    """Base of both hooks."""

    __slots__ = ("captured",)

    def __init__(self, captured: CapturedModule) -> None:
        self.captured = captured

    def __reduce__(self) -> tuple[Any, ...]:
        return getattr, (contextlib.nullcontext(), "__exit__")


class Before(Hook):
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
            captured = self.captured
            if parent.forwards and (not captured.path or captured.is_called_in_its_model(module, previous)):
                captured.begin(parent, previous, call, module, args, kwargs)
        except Exception as error:  # the guard: the forward runs whatever happens to us
            _lost(parent, "recording the start of a forward", error)


class After(Hook):
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
        if id(frame) == scope.call and scope.site in captures_of(frame.f_locals.get("self")):
            return True
        frame = frame.f_back
    return False


def _lost(parent: Scope | None, place: str, error: Exception) -> None:
    if parent is None:
        guard.fault(place, error)
    else:
        lost(parent, place, error)


def captures_of(module: object) -> list[CapturedModule]:
    """List what captures a module: a model of which it is a part, or itself as one."""
    hooks = dict(getattr(module, "_forward_pre_hooks", None) or ()).values()
    return [hook.captured for hook in hooks if isinstance(hook, Before)]
