"""Handles: how the program speaks of the task or workflow that is current.

Flows in: what the program adds (values generated, tags, metadata). Flows out: it waits in the scope until the
record is written at its end.
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
    """What handles of tasks and of workflows share."""

    __slots__ = ("_scope", "_unkept")

    def __init__(self, scope: Scope | None) -> None:
        self._scope = scope
        self._unkept = Extras() if scope is None else None

    @property
    def _extras(self) -> Extras:
        # Of a step that is not recorded everything may be said, and nothing is kept.
        return self._unkept or self._scope.ensure_extras()  # type: ignore[union-attr]

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
        """Metadata that will be recorded at the end; a dictionary to add to."""
        return self._extras.custom_metadata

    def set_generated(self, **values: Any) -> None:
        """Record values as generated; called again, it adds and overwrites."""
        self._extras.generated.update(values)

    def add_tags(self, *tags: str) -> None:
        """Add tags."""
        self._extras.tags.extend(str(tag) for tag in tags)


class TaskHandle(_Handle):
    """The task that is current."""

    __slots__ = ()

    @property
    def task_id(self) -> str | None:
        """Id of the task; None of a step that is not recorded."""
        return None if self._scope is None else self._scope.full_task_id()

    def __repr__(self) -> str:
        return f"<flowprov task {self.task_id}>"


class WorkflowHandle(_Handle):
    """The workflow that is current.

    In another process than the one that opened it (a Dask worker, a child), what is added is written at once,
    and joined with the rest by reading.
    """

    __slots__ = ()

    def set_generated(self, **values: Any) -> None:
        """Record values as generated; called again, it adds and overwrites."""
        scope = self._scope
        if scope is None or scope.workflow_id in scope.journal.open_scopes:
            super().set_generated(**values)
            return
        with guard.guarded("adding to a workflow of another process"):
            write_addition(scope.journal, scope.workflow_id, generated=values)

    def __repr__(self) -> str:
        return f"<flowprov workflow {self.workflow_id}>"


def current_task() -> TaskHandle | None:
    """Give the task in which the caller runs, None outside of any."""
    scope = _find()
    while scope is not None and (scope.key is None or not scope.recorded):
        if scope.key is None and scope.recorded:
            return None  # a workflow: what is around it is no task of this code
        scope = scope.parent
    return None if scope is None or isinstance(scope.key, str) else TaskHandle(scope)


def current_workflow() -> WorkflowHandle | None:
    """Give the workflow in which the caller runs, None outside of any."""
    scope = _find()
    while scope is not None and scope.key is not None and scope.parent is not None:
        scope = scope.parent
    return None if scope is None else WorkflowHandle(scope)


def _find() -> Scope | None:
    scope = context.current.get()
    while scope is not None and scope.closed:
        scope = scope.previous
    return scope or context.resolve_scope()


def bind(function: Callable[P, R]) -> Callable[P, R]:
    """Carry the current task into another thread.

    Parameters
    ----------
    function
        What the thread is to run.

    Returns
    -------
    callable
        The same function; what is recorded inside it belongs to the task in which ``bind`` was called.

    Notes
    -----
    Without it a thread is in the innermost open workflow of the process, and in nobody's task.
    """
    if runtime.disabled() or (scope := context.current_scope()) is None:
        return function

    @functools.wraps(function)
    def bound(*args: P.args, **kwargs: P.kwargs) -> R:
        before = context.current.get()
        context.current.set(scope)
        try:
            return function(*args, **kwargs)
        finally:
            context.current.set(before)

    return bound


__all__ = ["TaskHandle", "WorkflowHandle", "bind", "current_task", "current_workflow"]
