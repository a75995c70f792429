"""The capture of one module: what the hooks on it share, and the scopes of its forwards.

Flows in: where a forward runs, its inputs and its output. Flows out: the scope of a forward, and its line.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any, TypeVar

import torch

from flowprov.capture.function_spec import tags_and_metadata_fields
from flowprov.capture.metrics import decode_fields
from flowprov.capture.task_records import (
    close_task,
    encode_outputs_and_extras,
    end_with_error,
    no_telemetry_field,
    open_scope,
    thread_field,
)
from flowprov.capture.torch._torch_private import StopRecomputation
from flowprov.capture.torch.encoding import Detail, Inputs, encode, encode_output, name_outputs
from flowprov.capture.torch.model import Model
from flowprov.capture.torch.modes import Mode, describe_modes, mode_of, rank_of_process_group
from flowprov.runtime.context import Scope

C = TypeVar("C", bound="CapturedModule")

_get_thread_id = threading.get_ident
_get_frame = sys._getframe  # noqa: SLF001 - the only way to tell one call of a module from another
_exc_info = sys.exc_info

# Classes of epochs whose metadata is kept ready: an item of another class may be large, or change.
_READY_EPOCHS = frozenset({int, str, type(None)})


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
        """Whether the call that opened it is on the stack: at a frame (by default the caller's) or around it.

        What another thread runs is not looked at, and counts as running. The frame itself opened it where a
        module has hooks of several models.
        """
        if self.thread != _get_thread_id():
            return True
        opening_frame = self.frame
        frame = frame or _get_frame(1)
        while frame is not None:
            if frame is opening_frame:
                return True
            frame = frame.f_back
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
        model, enclosing_id = self.model, parent.workflow_id
        workflow = model.workflow
        # Ids are compared by identity, as scopes hand theirs on.
        if workflow.workflow_id is not enclosing_id and workflow.seen_in is not enclosing_id:
            workflow = model.workflow_in(parent)
        inputs = self._inputs
        is_first = inputs is None
        if inputs is None:
            inputs = self._prepare_first_forward(parent, module)
        journal = parent.journal
        thread = _get_thread_id()
        number = journal.next_number()
        line_prefix = workflow.parent_fields(parent) + self._fragment
        if thread != journal.main_thread:
            line_prefix += thread_field()
        scope = Forward(
            journal,
            number,
            workflow.workflow_id or enclosing_id,
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
            model.count_flops(module, scope, workflow)
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
            outputs = decode_fields(encode(name_outputs(output), self._detail))  # described, and never read
            close_task(scope, now, *encode_outputs_and_extras(scope, outputs, (), metadata))

    def _prepare_first_forward(self, parent: Scope, module: torch.nn.Module) -> Inputs:
        """Prepare what waits for the first forward, as modules may be replaced until then."""
        if not self.path and self._before_first_forward is not None:
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


class UnrecordedModule(CapturedModule):
    """The capture of a model whose forwards are not recorded: each may begin the model's workflow."""

    __slots__ = ()

    def open_forward(self, parent: Scope, *_: object) -> None:  # type: ignore[override]
        """Begin the workflow of the model if this is its first forward in a workflow of the program."""
        workflow, enclosing_id = self.model.workflow, parent.workflow_id
        if workflow.workflow_id is not enclosing_id and workflow.seen_in is not enclosing_id:
            self.model.workflow_in(parent)
