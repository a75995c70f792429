"""Handles: how the program reads and extends the current task or workflow.

Flows in: outputs, tags and metadata that the program adds. Flows out: the scope keeps them until its record
is written, at its end.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from flowprov import guard
from flowprov.capture.workflow_records import write_addition
from flowprov.runtime import context, runtime
from flowprov.runtime.context import Extras, Scope

P = ParamSpec("P")
R = TypeVar("R")


class _Handle:
    """What handles of tasks and of workflows share.

    Parameters
    ----------
    scope
        The scope of the task or workflow; None if it is not recorded.
    """

    __slots__ = ("_discarded", "_scope")

    def __init__(self, scope: Scope | None) -> None:
        self._scope = scope
        self._discarded = Extras() if scope is None else None

    @property
    def _extras(self) -> Extras:
        # A task that is not recorded accepts everything and keeps nothing.
        return self._discarded or self._scope.ensure_extras()  # type: ignore[union-attr]

    @property
    def workflow_id(self) -> str | None:
        """Id of the workflow."""
        return None if self._scope is None else self._scope.workflow_id

    @property
    def campaign_id(self) -> str | None:
        """Id of the campaign."""
        return None if self._scope is None else self._scope.journal.identity.campaign_id

    @property
    def custom_metadata(self) -> dict[str, Any]:
        """Metadata that is recorded at the end: a dictionary to add to."""
        return self._extras.custom_metadata

    def set_generated(self, **values: Any) -> None:
        """Record values as generated. A further call adds names and overwrites earlier values."""
        self._extras.generated.update(values)

    def add_tags(self, *tags: str) -> None:
        """Add tags."""
        self._extras.tags.extend(str(tag) for tag in tags)


class TaskHandle(_Handle):
    """The current task."""

    __slots__ = ()

    @property
    def task_id(self) -> str | None:
        """Id of the task; None if the task is not recorded."""
        return None if self._scope is None else self._scope.full_task_id()

    def __repr__(self) -> str:
        return f"<flowprov task {self.task_id}>"


class WorkflowHandle(_Handle):
    """The current workflow.

    In the process that opened the workflow, additions are written with the record of its end. In any other
    process (a Dask worker, a child) they are written at once, and readers merge them.
    """

    __slots__ = ()

    def set_generated(self, **values: Any) -> None:
        """Record values as generated. A further call adds names and overwrites earlier values."""
        scope = self._scope
        if scope is None or scope.workflow_id in scope.journal.open_scopes:
            super().set_generated(**values)
            return
        with guard.guarded("adding to a workflow of another process"):
            write_addition(scope.journal, scope.workflow_id, generated=values)

    def __repr__(self) -> str:
        return f"<flowprov workflow {self.workflow_id}>"


def current_task() -> TaskHandle | None:
    """Return a handle of the task in which the caller runs; None outside of any task."""
    scope = _open_scope()
    while scope is not None and (scope.key is None or not scope.recorded):
        if scope.key is None and scope.recorded:
            return None  # a workflow: a task around it is not the caller's
        scope = scope.parent
    return None if scope is None or isinstance(scope.key, str) else TaskHandle(scope)


def current_workflow() -> WorkflowHandle | None:
    """Return a handle of the workflow in which the caller runs; None outside of any workflow."""
    scope = _open_scope()
    while scope is not None and scope.key is not None and scope.parent is not None:
        scope = scope.parent
    return None if scope is None else WorkflowHandle(scope)


def _open_scope() -> Scope | None:
    """Return the current scope, without workflows that were stopped in another context."""
    scope = context.current.get()
    while scope is not None and scope.closed:
        scope = scope.previous
    return scope or context.resolve_scope()


def bind(function: Callable[P, R]) -> Callable[P, R]:
    """Carry the current task into another thread.

    Parameters
    ----------
    function
        The function that the thread runs.

    Returns
    -------
    callable
        A wrapper of the function. What is recorded inside belongs to the task in which ``bind`` was called.

    Notes
    -----
    Without ``bind``, the events of a thread belong to the innermost open workflow of the process, and to no
    task.
    """
    if runtime.disabled() or (scope := context.current_scope()) is None:
        return function

    @functools.wraps(function)
    def bound(*args: P.args, **kwargs: P.kwargs) -> R:
        previous = context.current.get()
        context.current.set(scope)
        try:
            return function(*args, **kwargs)
        finally:
            context.current.set(previous)

    return bound


__all__ = ["TaskHandle", "WorkflowHandle", "bind", "current_task", "current_workflow"]
