"""The hooks of a captured module: the hot path of a forward.

Flows in: calls by torch, before and after each forward. Flows out: one line per forward. A hook must not
raise, return anything, read a tensor's contents, or leave a mark in a graph that torch traces.

Hooks are pickled and copied as a function of the standard library that does nothing. So a model that was
pickled while it was captured loads where flowprov is not installed, and a copy is not captured.
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
from flowprov.capture.task_records import (
    close_task,
    enclosing_scope,
    encode_outputs_and_extras,
    end_with_error,
    no_telemetry_field,
    open_scope,
    thread_field,
)
from flowprov.capture.torch._torch_private import FORWARD_PRE_HOOKS, StopRecomputation, is_traced
from flowprov.capture.torch.encoding import Detail, Inputs, encode_output, name_outputs
from flowprov.capture.torch.model import Model
from flowprov.capture.torch.modes import Mode, describe_modes, mode_of, rank_of_process_group
from flowprov.capture.torch.tracing import is_compiling, warn_if_inlined
from flowprov.clock import ticks
from flowprov.runtime import context
from flowprov.runtime.context import Scope

C = TypeVar("C", bound="CapturedModule")

_get_current = context.current.get
_set_current = context.current.set
_get_thread_id = threading.get_ident
_get_frame = sys._getframe  # noqa: SLF001 - the only way to tell one call of a module from another
_exc_info = sys.exc_info

# Classes of epochs whose metadata is kept ready: an item of another class may be large, or change.
_READY_EPOCHS = frozenset({int, str, type(None)})


# Tools that replace a module copy its hooks, and forget that these take keywords.
_NO_KWARGS: dict[str, Any] = {}
_MISSING = object()


class Forward(Scope):
    """The open scope of a forward.

    Attributes
    ----------
    frame
        The frame of ``Module._call_impl`` that runs the forward; released at its end.
    thread
        The thread that runs it.
    mode
        The modes under which it runs (see :func:`flowprov.capture.torch.modes.mode_of`).
    exc_at_start
        The exception that was handled when it began. It did not end this forward.
    inner_seen
        For a forward that was opened around compiled code: the other capture of the same module whose hook
        ran inside it.
    child_seen
        For a forward that was opened around compiled code: whether a child ran outside of the graph.
    """

    frame: FrameType | None = None
    thread: int = 0
    mode: Mode = ()
    exc_at_start: BaseException | None = None
    inner_seen: object = None
    child_seen: bool = False

    def is_running(self, frame: FrameType | None = None) -> bool:
        """Whether the call that opened it is on the stack, around a frame (by default, that of the caller).

        What another thread runs is not looked at, and counts as running.
        """
        if self.thread != _get_thread_id():
            return True
        opening_frame = self.frame
        frame = frame or _get_frame(1)
        while frame is not None:
            frame = frame.f_back
            if frame is opening_frame:
                return frame is not None
        return False


class CapturedModule:
    """The capture of one module: what its hooks share.

    Parameters
    ----------
    model
        The captured model to which the module belongs.
    path
        Path of the module in the model, "" for the model itself.
    name
        Name of the activity: the name of the module's class.
    detail
        How closely its inputs and outputs are described.
    before_first_forward
        Called with the module before its first forward is recorded.

    Attributes
    ----------
    model, path, name
        As above.
    outer
        The capture of the same module from outside of compiled code; None until the module is compiled.
    inner
        For a capture from outside of compiled code: the capture of the module itself.
    """

    __slots__ = (
        "_before_first_forward",
        "_detail",
        "_epoch",
        "_fragment",
        "_inputs",
        "_requested_detail",
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
        before_first_forward: Callable[[torch.nn.Module], None] | None = None,
    ) -> None:
        self.model = model
        self.path = path
        self.name = name
        self.outer: CapturedModule | None = None
        self.inner: CapturedModule | None = None
        self._fragment = b""
        self._detail = self._requested_detail = detail  # a subclass may extend what was requested
        self._before_first_forward = before_first_forward
        self._inputs: Inputs | None = None
        self._epoch: object = None
        self._tails: dict[Mode, bytes] = {}

    def copy_as(self, cls: type[C]) -> C:
        """Create an object of another class that captures the same module."""
        return cls(self.model, self.path, self.name, self._requested_detail, self._before_first_forward)

    def is_called_in_its_model(self, module: torch.nn.Module, current: Scope | None) -> bool:
        """Whether this model records a forward of a child: several models may share a module."""
        scope = current
        while scope is not None:
            if isinstance(scope, Forward) and isinstance(scope.opener, CapturedModule):
                return scope.opener.model is self.model
            scope = scope.previous
        first = captured_modules_of(module)[0]  # the child was called by itself: one of the models records it
        return first is self or first is self.inner

    def open_forward(
        self,
        parent: Scope,
        previous: Scope | None,
        frame: FrameType | None,
        module: torch.nn.Module,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Forward:
        """Open the scope of a forward."""
        inputs = self._inputs
        is_first = inputs is None
        if inputs is None:
            inputs = self._prepare_first_forward(parent, module)
        model = self.model
        journal = parent.journal
        thread = _get_thread_id()
        number = journal.next_number()
        line_prefix = model.parent_fields(parent) + self._fragment
        if thread != journal.main_thread:
            line_prefix += thread_field()
        scope = Forward(
            journal,
            number,
            model.workflow_id or parent.workflow_id,
            line_prefix,
            inputs.encode(args, kwargs, self._detail),
            0,
            0,
            previous,
            parent,
            False,
            parent.forwards,
            parent.epoch,
            opener=self,
            frame=frame,
            thread=thread,
            mode=mode_of(module),
            exc_at_start=_exc_info()[1],
        )
        if is_first and not self.path:
            model.count_flops(module, scope)
        open_scope(scope, telemetry=self._requested_detail.telemetry)
        return scope

    def close_forward(self, scope: Forward, now: int, output: Any) -> None:
        """Record a forward that returned or raised."""
        error = _exc_info()[1]
        exc_at_start, scope.exc_at_start, scope.frame = scope.exc_at_start, None, None
        if error is not None and error is not exc_at_start:
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

    def _prepare_first_forward(self, parent: Scope, module: torch.nn.Module) -> Inputs:
        """Prepare what waits for the first forward, as modules may be replaced until then."""
        if not self.path:
            self.model.open(module, parent)
            if self._before_first_forward is not None:
                self._before_first_forward(module)
        fragment = self.model.fragment(self.name, "child_forward" if self.path else "parent_forward")
        if parent.journal.identity.rank is None and (rank := rank_of_process_group()) is not None:
            fragment += b',"rank":%d' % rank
        if not self._requested_detail.telemetry:
            fragment += no_telemetry_field()
        self._fragment = fragment  # assigned once, as several threads may run this
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
            if epoch.__class__ not in _READY_EPOCHS:
                return tags_and_metadata_fields((), self._metadata(mode, epoch))
            self._epoch, self._tails = epoch, {}
        tail = self._tails.get(mode)
        if tail is None:
            tail = self._tails[mode] = tags_and_metadata_fields((), self._metadata(mode, epoch))
        return tail


class CaptureHook:
    """Base of the hooks of capture."""

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
            warn_if_inlined(self)
            return
        if is_traced():
            return
        parent = None
        try:
            frame = _get_frame(1).f_back
            parent = previous = _get_current()
            if previous.__class__ is Forward:
                parent = previous = _close_abandoned(previous, frame)
                if (
                    previous.__class__ is Forward
                    and previous.opener.inner is not None  # type: ignore[attr-defined]
                    and _is_recorded_around(previous, self.captured)
                ):
                    return
            if parent is None or parent.muted:
                parent = enclosing_scope(parent)
                if parent is None:
                    return
            captured = self.captured
            if parent.forwards and (not captured.path or captured.is_called_in_its_model(module, previous)):
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


def _count_lost(parent: Scope | None, activity: str, error: Exception) -> None:
    if parent is None:
        guard.report_internal_error(activity, error)
    else:
        count_lost_event(parent, activity, error)


def captured_modules_of(module: object) -> list[CapturedModule]:
    """Return the captures of a module: one for each model that records it, as a child or as the model."""
    hooks = dict(getattr(module, FORWARD_PRE_HOOKS, None) or ()).values()
    return [hook.captured for hook in hooks if isinstance(hook, ForwardPreHook)]
