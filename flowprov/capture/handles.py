"""Handles: how the program reads and extends the current task or workflow.

Flows in: outputs, tags and metadata that the program adds. Flows out: additions, which are written at once.
The scope keeps them until its end, and the record of the end repeats them.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, MutableMapping
from typing import Any

from flowprov import guard
from flowprov.capture import additions, replay
from flowprov.capture.additions import Metadata, collect_values
from flowprov.capture.error_description import sanitize_text
from flowprov.capture.workflow_records import add_to_workflow, tags_as_metadata
from flowprov.runtime import context, inheritance, runtime
from flowprov.runtime.context import Scope
from flowprov.values import as_names


class _Handle:
    """What handles of tasks and of workflows share.

    Parameters
    ----------
    scope
        The scope of the task or workflow; None if it is not recorded.
    """

    __slots__ = ("_discarded", "_ids", "_scope")

    def __init__(self, scope: Scope | None) -> None:
        self._scope = scope
        self._ids: dict[str, str | None] = {}  # of a copy
        self._discarded: dict[str, Any] = {}

    @property
    def workflow_id(self) -> str | None:
        """Id of the workflow."""
        return self._ids.get("workflow_id") if self._scope is None else self._scope.workflow_id

    @property
    def campaign_id(self) -> str | None:
        """Id of the campaign."""
        scope = self._scope
        return self._ids.get("campaign_id") if scope is None else scope.journal.identity.campaign_id

    @property
    def custom_metadata(self) -> MutableMapping[str, Any]:
        """Metadata: a dictionary to add to. What is added is in the journal at once."""
        scope = self._scope
        if scope is None:
            return self._discarded  # a task that is not recorded accepts everything and keeps nothing
        return Metadata(scope.ensure_extras().custom_metadata, self._add_metadata)

    @replay.compiled_as(replay.not_recorded)
    def set_generated(self, generated: Any = None, /, **values: Any) -> None:
        """Record values as generated: a mapping, keywords, or both. They are in the journal at once.

        A further call adds names and overwrites earlier values.
        """
        if self._scope is not None:
            with guard.guarded("recording what was generated"):
                self._add(collect_values("set_generated", generated, values))

    @replay.compiled_as(replay.not_recorded)
    def add_tags(self, *tags: str) -> None:
        """Add tags. They are in the journal at once."""
        if self._scope is not None and tags:
            with guard.guarded("adding tags"):
                self._add_tags([sanitize_text(name) for tag in tags for name in as_names(tag)])

    def _add_metadata(self, values: Mapping[str, Any]) -> None:
        with guard.guarded("adding metadata"):
            self._write_metadata(values)

    def _add(self, values: dict[str, Any]) -> None:
        raise NotImplementedError

    def _add_tags(self, tags: list[str]) -> None:
        raise NotImplementedError

    def _write_metadata(self, values: Mapping[str, Any]) -> None:
        raise NotImplementedError

    def __reduce__(self) -> tuple[Any, ...]:
        names = ("task_id", "workflow_id", "campaign_id")
        return (_copy_of_handle, (type(self), {name: getattr(self, name, None) for name in names}))


def _copy_of_handle(cls: type[_Handle], ids: dict[str, str | None]) -> _Handle:
    """Return the copy of a handle: it has the ids, and records nothing."""
    handle = cls(None)
    handle._ids = ids
    return handle


class TaskHandle(_Handle):
    """The current task."""

    __slots__ = ()
    _scope: Scope

    @property
    def task_id(self) -> str | None:
        """Id of the task; None if the task is not recorded."""
        return self._ids.get("task_id") if self._scope is None else self._scope.full_task_id()

    def _add(self, values: dict[str, Any]) -> None:
        additions.add_generated(self._scope, values)

    def _add_tags(self, tags: list[str]) -> None:
        additions.add_tags(self._scope, tags)

    def _write_metadata(self, values: Mapping[str, Any]) -> None:
        additions.write_metadata(self._scope, values)

    def __repr__(self) -> str:
        return f"<flowprov task {self.task_id}>"


class WorkflowHandle(_Handle):
    """The current workflow.

    Any process may add to it: a Dask worker and a child as well as the process that opened it.
    """

    __slots__ = ()
    _scope: Scope

    def _add(self, values: dict[str, Any]) -> None:
        add_to_workflow(self._scope, generated=values)

    def _add_tags(self, tags: list[str]) -> None:
        self._scope.ensure_extras().tags.extend(tags)
        add_to_workflow(self._scope, custom_metadata=tags_as_metadata(tags))

    def _write_metadata(self, values: Mapping[str, Any]) -> None:
        add_to_workflow(self._scope, custom_metadata=values)

    def __repr__(self) -> str:
        return f"<flowprov workflow {self.workflow_id}>"


class _UnrecordedTask(TaskHandle):
    """The handle in code that is traced: it accepts everything and keeps nothing."""

    __slots__ = ()

    @property
    def custom_metadata(self) -> MutableMapping[str, Any]:
        """A dictionary that is not recorded."""
        return {}


class _UnrecordedWorkflow(WorkflowHandle):
    """As :class:`_UnrecordedTask`."""

    __slots__ = ()

    @property
    def custom_metadata(self) -> MutableMapping[str, Any]:
        """A dictionary that is not recorded."""
        return {}


UNRECORDED_TASK = _UnrecordedTask(None)
UNRECORDED_WORKFLOW = _UnrecordedWorkflow(None)


def current_task() -> TaskHandle | None:
    """Return a handle of the task in which the caller runs; None outside of any task.

    While torch traces the caller, the handle accepts everything and records nothing.
    """
    if replay.is_traced():
        return UNRECORDED_TASK
    scope = _open_scope()
    task = None if scope is None else context.recorded_task(scope)
    return None if task is None or isinstance(task.key, str) else TaskHandle(task)


def current_workflow() -> WorkflowHandle | None:
    """Return a handle of the workflow in which the caller runs; None outside of any workflow.

    While torch traces the caller, the handle accepts everything and records nothing.
    """
    if replay.is_traced():
        return UNRECORDED_WORKFLOW
    scope = _open_scope()
    return None if scope is None else WorkflowHandle(context.workflow_of(scope))


def _open_scope() -> Scope | None:
    """Return the current scope, without workflows that were stopped in another context."""
    scope = context.current.get()
    while scope is not None and scope.closed:
        scope = scope.previous
    if scope is None and runtime.peek() is None and inheritance.inherited_ids(os.environ)[1] is not None:
        runtime.get()  # a child process, before its first event: it joins the workflow of its parent
    return scope or context.resolve_scope()


__all__ = ["TaskHandle", "WorkflowHandle", "current_task", "current_workflow"]
