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
from typing import Any, TypeVar

import torch

from flowprov import guard
from flowprov.capture.failures import close_after_fault, close_all_abandoned, count_lost_event
from flowprov.capture.function_spec import tags_and_metadata_fields
from flowprov.capture.recorder import (
    close_task,
    enclosing_scope,
    encode_outputs_and_extras,
    end_with_error,
    no_telemetry_field,
    open_scope,
    thread_field,
)
from flowprov.capture.torch.encoding import Detail, Inputs, encode_output, name_outputs
from flowprov.capture.torch.model import Model
from flowprov.capture.torch.modes import (
    Mode,
    StopRecomputation,
    describe_modes,
    mode_of,
    rank_of_process_group,
)
from flowprov.capture.torch.tracing import is_compiling, is_traced, meet
from flowprov.clock import ticks
from flowprov.runtime import context
from flowprov.runtime.context import Scope

K = TypeVar("K", bound="CapturedModule")

_get = context.current.get
_set = context.current.set
_thread = threading.get_ident
_frame = sys._getframe  # noqa: SLF001 - the only way to tell one call of a module from another
_exc_info = sys.exc_info

# Epochs whose metadata is kept ready: of other kinds an item may be large, or change.
_KEPT_EPOCHS = frozenset({int, str, type(None)})


# Tools that put another module in the place of one copy its hooks, and forget that these take keywords.
_NO_KWARGS: dict[str, Any] = {}
_UNTOLD = object()


class Forward(Scope):
    """The open scope of a forward.

    Attributes
    ----------
    frame
        The frame of ``Module._call_impl`` that runs the forward; let go of at its end.
    thread
        The thread that runs it.
    mode
        Under which modes it runs (see :func:`flowprov.capture.torch.modes.current`).
    exc_at_start
        The exception that was being handled when it began, which is therefore none of its own.
    inner_seen
        It was opened around compiled code, and this other way into the same forward was met in it.
    child_seen
        It was opened around compiled code, and a child ran outside of the graph.
    """

    frame: FrameType | None = None
    thread: int = 0
    mode: Mode = ()
    exc_at_start: BaseException | None = None
    inner_seen: object = None
    child_seen: bool = False


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
    model, path, name
        As above.
    outer
        What captures the module from outside of compiled code, once it was compiled.
    inner
        Of such a one: what captures the module itself.
    """

    __slots__ = (
        "_asked_detail",
        "_at_first",
        "_detail",
        "_epoch",
        "_fragment",
        "_inputs",
        "_tails",
        "inner",
        "model",
        "name",
        "outer",
        "path",
    )

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
        self.name = name
        self.outer: CapturedModule | None = None
        self.inner: CapturedModule | None = None
        self._fragment = b""
        self._detail = self._asked_detail = detail  # some kinds make another of what they were asked for
        self._at_first = at_first
        self._inputs: Inputs | None = None
        self._epoch: object = None
        self._tails: dict[Mode, bytes] = {}

    def copy_as(self, kind: type[K]) -> K:
        """Make one of another kind for the same module."""
        return kind(self.model, self.path, self.name, self._asked_detail, self._at_first)

    def is_called_in_its_model(self, module: torch.nn.Module, current: Scope | None) -> bool:
        """Whether a forward of a child belongs to this model: several may share a module."""
        scope = current
        while scope is not None:
            if isinstance(scope, Forward) and isinstance(scope.opener, CapturedModule):
                return scope.opener.model is self.model
            scope = scope.previous
        first = captured_modules_of(module)[0]  # called by itself: one of the models records it
        return first is self or first is self.inner

    def begin(
        self,
        parent: Scope,
        previous: Scope | None,
        call: FrameType | None,
        module: torch.nn.Module,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Forward:
        """Open the scope of a forward."""
        inputs = self._inputs
        is_first = inputs is None
        if inputs is None:
            inputs = self._prepare(parent, module)
        model = self.model
        journal = parent.journal
        thread = _thread()
        number = journal.next_number()
        place = model.parent_fields(parent) + self._fragment
        if thread != journal.main_thread:
            place += thread_field()
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
            opener=self,
            frame=call,
            thread=thread,
            mode=mode_of(module),
            exc_at_start=_exc_info()[1],
        )
        if is_first and not self.path:
            model.count_flops(module, scope)
        open_scope(scope, telemetry=self._asked_detail.telemetry)
        return scope

    def end(self, scope: Forward, now: int, output: Any) -> None:
        """Record a forward that returned, or raised."""
        error = _exc_info()[1]
        handled, scope.exc_at_start, scope.frame = scope.exc_at_start, None, None
        if error is not None and error is not handled:
            metadata = self._metadata(scope.mode, scope.epoch)
            if isinstance(error, torch.OutOfMemoryError):
                metadata["out_of_memory"] = True
            if isinstance(error, StopRecomputation):
                metadata["stopped_early"] = True
                close_task(scope, now, *encode_outputs_and_extras(scope, None, (), metadata))
                return
            end_with_error(scope, error, (), metadata)
            return
        if scope.extras is None:
            close_task(scope, now, encode_output(output, self._detail), self._tail(scope.mode, scope.epoch))
        else:
            metadata = self._metadata(scope.mode, scope.epoch)
            close_task(scope, now, *encode_outputs_and_extras(scope, name_outputs(output), (), metadata))

    def _prepare(self, parent: Scope, module: torch.nn.Module) -> Inputs:
        """Do what is due at the first forward; since the construction parts may have been replaced."""
        if not self.path:
            self.model.open(module, parent)
            if self._at_first is not None:
                self._at_first(module)
        fragment = self.model.fragment(self.name, "child_forward" if self.path else "parent_forward")
        if parent.journal.identity.rank is None and (rank := rank_of_process_group()) is not None:
            fragment += b',"rank":%d' % rank
        if not self._asked_detail.telemetry:
            fragment += no_telemetry_field()
        self._fragment = fragment  # whole at once: threads may meet here
        self._inputs = inputs = Inputs(module.forward)
        return inputs

    def _metadata(self, mode: Mode, epoch: Any) -> dict[str, Any]:
        return {
            **self.model.custom_metadata,
            **describe_modes(mode),
            "epoch": epoch,
            "module_path": self.path,
        }

    def _tail(self, mode: Mode, epoch: Any) -> bytes:
        if self._epoch is not epoch:
            if epoch.__class__ not in _KEPT_EPOCHS:
                return tags_and_metadata_fields((), self._metadata(mode, epoch))
            self._epoch, self._tails = epoch, {}
        tail = self._tails.get(mode)
        if tail is None:
            tail = self._tails[mode] = tags_and_metadata_fields((), self._metadata(mode, epoch))
        return tail


class CaptureHook:
    """Base of both hooks."""

    __slots__ = ("captured",)

    def __init__(self, captured: CapturedModule) -> None:
        self.captured = captured

    def __reduce__(self) -> tuple[Any, ...]:
        return getattr, (contextlib.nullcontext(), "__exit__")


class ForwardPreHook(CaptureHook):
    """Opens the scope of a forward."""

    __slots__ = ()

    def __call__(
        self, module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any] = _NO_KWARGS
    ) -> None:
        """Run before a forward."""
        if is_compiling():
            meet(self)
            return
        if is_traced():
            return
        parent = None
        try:
            call = _frame(1).f_back
            parent = previous = _get()
            if previous.__class__ is Forward:
                parent = previous = _close_abandoned(previous, call)
                if (
                    previous.__class__ is Forward
                    and previous.opener.inner is not None  # type: ignore[attr-defined]
                    and _is_in_compiled(previous, self.captured)
                ):
                    return
            if parent is None or parent.muted:
                parent = enclosing_scope(parent)
                if parent is None:
                    return
            captured = self.captured
            if parent.forwards and (not captured.path or captured.is_called_in_its_model(module, previous)):
                captured.begin(parent, previous, call, module, args, kwargs)
        except Exception as error:  # the guard: the forward runs whatever happens to us
            _lost(parent, "recording the start of a forward", error)


class ForwardHook(CaptureHook):
    """Closes the scope of a forward and writes its line."""

    __slots__ = ()

    def __call__(
        self, _module: torch.nn.Module, _args: tuple[Any, ...], kwargs: Any, output: Any = _UNTOLD
    ) -> None:
        """Run after a forward, however it ended."""
        if is_compiling():
            return
        if output is _UNTOLD:
            output = kwargs
        now = ticks()
        captured, scope = self.captured, _get()
        try:
            # The same test as that of opened_by, which is for what is rare.
            if not (
                scope.__class__ is Forward and scope.opener is captured and scope.frame is _frame(1).f_back
            ):
                scope = forward_opened_by(captured, scope, _frame(1))
            if scope is not None:
                captured.end(scope, now, output)
        except Exception as error:  # the guard
            if scope is None:
                guard.report_internal_error("recording the end of a forward", error)
            else:
                close_after_fault(scope, "recording the end of a forward", error)


def forward_opened_by(captured: CapturedModule, scope: Scope | None, frame: FrameType) -> Forward | None:
    """Find the scope that the hook before this very call opened; None where it opened none."""
    # After an exception torch calls hooks from one frame further out than after a forward that returned.
    calls = (frame.f_back, frame)
    while scope is not None:
        if isinstance(scope, Forward) and scope.opener is captured and scope.frame in calls:
            return scope
        scope = scope.previous
    return None


def _is_in_compiled(scope: Forward, captured: CapturedModule) -> bool:
    """Whether a forward is recorded already: one that is compiled can be entered in up to three ways."""
    around: Any = scope.opener
    # From outside to inside; each but once, for a module may call itself.
    if (captured is around and scope.inner_seen is None) or (
        captured is around.inner and scope.inner_seen is not captured
    ):
        scope.inner_seen = captured
        return True
    scope.child_seen = True
    return False


def _close_abandoned(scope: Scope | None, call: FrameType | None) -> Scope | None:
    """Close forwards that a KeyboardInterrupt ended: no hook ran then, and they still look current."""
    while isinstance(scope, Forward) and scope.thread == _thread() and not _is_running(scope, call):
        _set(scope.previous)
        close_all_abandoned([scope])
        scope = scope.previous
    return scope


def _is_running(scope: Forward, call: FrameType | None) -> bool:
    """Whether the call that opened a scope is on the stack, around the given one."""
    wanted, frame = scope.frame, call
    while frame is not None:
        frame = frame.f_back
        if frame is wanted:
            return frame is not None
    return False


def _lost(parent: Scope | None, place: str, error: Exception) -> None:
    if parent is None:
        guard.report_internal_error(place, error)
    else:
        count_lost_event(parent, place, error)


def captured_modules_of(module: object) -> list[CapturedModule]:
    """List what captures a module: a model of which it is a part, or itself as one."""
    hooks = dict(getattr(module, "_forward_pre_hooks", None) or ()).values()
    return [hook.captured for hook in hooks if isinstance(hook, ForwardPreHook)]
