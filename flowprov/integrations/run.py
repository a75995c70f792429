"""The run of an adapter: the workflow that is open, else one that it opens and closes.

Flows in: what the callbacks of a framework learn. Flows out: a workflow, with parameters, metrics, epochs,
artifacts, and the attempt from which it went on.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, TypeVar

from flowprov import guard
from flowprov.capture.artifacts.calls import log_artifact, use_artifact
from flowprov.capture.handles import current_workflow
from flowprov.capture.log_calls import log_many_params, log_metrics_of
from flowprov.capture.resume import resume_from
from flowprov.capture.stepped_loops import SteppedBatches, SteppedEpochs
from flowprov.capture.task_records import close_with_holder, enclosing_scope
from flowprov.capture.workflow import workflow
from flowprov.capture.workflow_records import error_of_program
from flowprov.environment import launchers
from flowprov.errors import SettingsError
from flowprov.runtime import context, runtime
from flowprov.runtime.context import Scope

F = TypeVar("F", bound=Callable[..., Any])

_CHECKPOINT = "checkpoint"


def callback(function: F) -> F:
    """Decorate a method that a framework calls: a fault of ours is counted, and never reaches the framework.

    Settings that cannot be used are no such fault: they stop a program at its first event.
    """

    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except SettingsError:
            raise
        except Exception as error:  # this is the guard
            guard.report_internal_error(f"following a framework ({function.__name__})", error)

    return call  # type: ignore[return-value]


class AdapterRun:
    """One training, as an adapter sees it.

    Parameters
    ----------
    is_told
        Whether the framework tells of the end of each training that no exception ended. One that is open at
        the end of the program was ended by one.

    Attributes
    ----------
    is_told
        As it was given.
    epochs
        Its loop over epochs.
    is_open
        Whether it was opened and not closed.
    """

    def __init__(self, *, is_told: bool = False) -> None:
        self.is_told = is_told
        self.epochs = SteppedEpochs()
        self.is_open = False
        self._batches: dict[str, SteppedBatches] = {}
        self._own: workflow | None = None
        self._scope: Scope | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return (AdapterRun, ())  # a copy, as some frameworks make of callbacks, is a run that has not begun

    @property
    def workflow_id(self) -> str | None:
        """Id of its workflow; None before it was opened, or if nothing is recorded."""
        return None if self._scope is None else self._scope.workflow_id

    def open(self, name: str, *, is_main: bool = True, **options: Any) -> None:
        """Join the workflow that is open, else open one. Do nothing if it is open.

        Parameters
        ----------
        name
            The name of the workflow that is opened.
        is_main
            Whether this process is the first of those that train together. The others open no workflow,
            unless their launcher says to which job they belong.
        **options
            As for :class:`~flowprov.capture.workflow.workflow`.
        """
        if self.is_open:
            return
        self.is_open, self._scope = True, None
        if _scope_of_program() is None:
            if runtime.disabled() or not (is_main or launchers.current_job() is not None):
                return
            self._own = workflow(name, **options).start()
            at_exit = runtime.get().at_exit
            if _close_all not in at_exit:
                at_exit.append(_close_all)
            _open_runs.add(self)
        scope = _scope_of_program()
        self._scope = None if scope is None else context.workflow_of(scope)
        if self._own is not None and self._scope is not None:
            close_with_holder(self._scope, self)  # an exception may end a training, and nobody says so

    def batches(self, step: str = "train") -> SteppedBatches:
        """Return its loop over batches of one kind."""
        if step not in self._batches:
            self._batches[step] = SteppedBatches(step)
        return self._batches[step]

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Record parameters."""
        if self.is_open and self._scope is not None and params:
            log_many_params(params)

    def log_metrics(self, values: Mapping[str, Any], step: int | None) -> None:
        """Record numbers; where no workflow is open, those of the run that ended last."""
        scope = _scope_of_program() or self._scope
        if scope is not None:
            log_metrics_of(scope, values, step)

    def log_checkpoint(self, path: str, *, epoch: int | None = None, step: int | None = None) -> None:
        """Record a file or folder as a checkpoint that the run wrote."""
        if self.is_open and self._scope is not None:
            name = os.path.basename(path)  # noqa: PTH119 - as the framework gave it
            log_artifact(path, name, kind=_CHECKPOINT, epoch=epoch, step=step)

    def use_checkpoint(self, path: str) -> None:
        """Record a file or folder as a checkpoint that the run read."""
        if self.is_open and self._scope is not None:
            use_artifact(path, kind=_CHECKPOINT)

    def resume(
        self,
        checkpoint: str | None,
        *,
        workflow_id: Any = None,
        step: int | None = None,
        epoch: int | None = None,
    ) -> None:
        """Record that this is a later attempt, unless one workflow holds both."""
        earlier = workflow_id if isinstance(workflow_id, str) else None
        if not self.is_open or self._scope is None or earlier == self.workflow_id:
            return
        if checkpoint is not None or earlier is not None:
            resume_from(checkpoint, step=step, epoch=epoch, workflow_id=earlier)

    def end_loops(self, error: BaseException | None = None) -> None:
        """End its loops, with the exception that ended them, if one did."""
        for loop in (*self._batches.values(), self.epochs):
            loop.finish(error)

    def close(self, error: BaseException | None = None) -> None:
        """End its loops, and its workflow, if it opened that."""
        self.end_loops(error)
        self.is_open = False
        _open_runs.discard(self)
        own, self._own = self._own, None
        if own is not None:
            own.stop(error)

    def abandon(self) -> None:
        """Close it, if it is open, after an exception that nobody told."""
        if self.is_open:
            self.close(Exception("left without reaching its end"))


_open_runs: weakref.WeakSet[AdapterRun] = weakref.WeakSet()


def _scope_of_program() -> Scope | None:
    """Return the scope of the caller in a workflow that the program opened; None without one."""
    if current_workflow() is None:
        return None
    scope = enclosing_scope(context.current.get(), implicit=False)
    is_implicit = scope is not None and context.workflow_of(scope) is context.open_workflows.implicit
    return None if is_implicit else scope


def _close_all() -> None:
    """Close what is open at the end of the program: an exception may have ended a training."""
    error = error_of_program()
    for run in list(_open_runs):
        if error is None and run.is_told:
            run.abandon()
        else:
            run.close(error)
