"""The scope of a generator: current while its body runs, and only then.

Flows in: the steps of a generator. Flows out: the record of its end, and of what is open in a body that was
let go in the middle.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flowprov import guard
from flowprov.capture.failures import close_after_fault, close_held
from flowprov.capture.function_spec import FunctionSpec
from flowprov.capture.task_records import (
    close_task,
    encode_outputs_and_extras,
    end_with_error,
    start_call,
    undo_returned_start,
)
from flowprov.clock import ticks
from flowprov.runtime import context
from flowprov.runtime.context import Scope


class SuspendedScope:
    """The scope of a generator: current while its body runs, and only then.

    Attributes
    ----------
    scope
        The scope; None if nothing is recorded.
    yielded
        How many values the generator yielded.
    """

    def __init__(self) -> None:
        self.scope: Scope | None = None
        self._innermost: Scope | None = None
        self.yielded = 0

    def start(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Open the scope, suspended."""
        self._open(args, kwargs)
        self._innermost = self.scope
        self.suspend()

    def is_open(self) -> bool:
        """Whether the scope has no record of its end yet, and this process is to write it."""
        scope = self.scope
        if scope is None:
            return False
        return (scope.workflow_id if scope.key is None else scope.key) in scope.journal.open_scopes

    def suspend(self) -> None:
        """Take the scope out of the context, with those of loops in the body, while the body waits."""
        scope, innermost = self.scope, context.current.get()
        opened = innermost
        while opened is not None and opened is not scope:
            opened = opened.previous
        if scope is not None and opened is not None:  # else another context
            self._innermost = innermost
            context.current.set(scope.previous)

    def resume(self) -> None:
        """Make the scopes of the body current again, inside the scope that is current where it resumes."""
        if self.scope is not None:
            self.scope.previous = context.current.get()
            context.current.set(self._innermost)

    def close_inner(self) -> None:
        """Record what is open in a body that is let go in the middle: no code of it runs any more."""
        inner = self._innermost
        while inner is not None and inner is not self.scope:
            with guard.guarded("closing what is open in a generator"):
                close_held(inner)
            inner = inner.previous

    def end(self, result: Any, *, left_early: bool = False) -> None:
        """Record the end of the generator, and whether it was closed before its end."""
        raise NotImplementedError

    def fail(self, error: BaseException) -> None:
        """Record that an exception ended the generator, unless it has its record."""
        raise NotImplementedError

    def _open(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Open the scope and make it current; leave it None if nothing is recorded."""
        raise NotImplementedError


class GeneratorTask(SuspendedScope):
    """The scope of a generator that is a task.

    Parameters
    ----------
    spec
        The generator's function.
    """

    def __init__(self, spec: FunctionSpec) -> None:
        super().__init__()
        self._spec = spec

    def _open(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        try:
            self.scope = start_call(self._spec, args, kwargs)
        except BaseException as error:  # from outside, raised on unchanged
            undo_returned_start(error)
            raise

    def end(self, result: Any, *, left_early: bool = False) -> None:
        """Record the end of the generator: how many values it yielded, and what it returned."""
        scope, spec = self.scope, self._spec
        if scope is None:
            return
        try:
            ended = ticks()
            outputs = self._outputs(result)
            metadata = {**spec.custom_metadata, "left_early": True} if left_early else spec.custom_metadata
            close_task(scope, ended, *encode_outputs_and_extras(scope, outputs, spec.tags, metadata))
        except BaseException as error:  # the guard; what came from outside passes on from there
            close_after_fault(scope, "recording the end of a generator", error)

    def fail(self, error: BaseException) -> None:
        """Record that an exception ended the generator, unless it has its record."""
        if self.scope is not None and self.is_open():
            end_with_error(self.scope, error, self._spec.tags, self._spec.custom_metadata)

    def _outputs(self, result: Any) -> Mapping[str, Any] | None:
        return {"yielded": self.yielded, **(self._spec.name_outputs(result) or {})}


class AwaitedTask(GeneratorTask):
    """The scope of a generator that is awaited: what it yields is for the event loop, and no output."""

    def _outputs(self, result: Any) -> Mapping[str, Any] | None:
        return self._spec.name_outputs(result)
