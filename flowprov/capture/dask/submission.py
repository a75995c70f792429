"""The annotation of each submission: the workflow and the task in which it was made.

Flows in: the workflows that are open with a Dask client, and the current scope of the caller. Flows out: an
annotation on the tasks that are submitted, from any thread and from inside tasks.

Dask asks ``dask.get_annotations`` at every submission for the annotations of ``with dask.annotate(...)``.
Such a block would not be enough: threads that the program starts do not inherit it, and neither do tasks that
submit tasks. So this module wraps the function. The wrapper answers only to a client that submits. Any other
caller gets what Dask gives: graphs would keep the annotation of the workflow in which they were built, and
dataframes warn of any annotation. ``_dask_private`` lists the parts of Dask on which this rests.
"""

from __future__ import annotations

import functools
import os
import sys
import weakref
from typing import Any

import msgspec

from flowprov import guard
from flowprov.capture.dask import _dask_private, current_task, origin
from flowprov.clock import clock
from flowprov.locks import create_lock
from flowprov.runtime import context, inheritance
from flowprov.runtime.context import Scope


class ClientWorkflow:
    """An open workflow, and the client with which it was opened."""

    def __init__(self, client: Any, scope: Scope) -> None:
        self.client = weakref.ref(client)
        self.scope = scope
        self.task_context = origin.context_of_workflow(scope)


client_workflows: list[ClientWorkflow] = []
_install_lock = create_lock()


def install() -> bool:
    """Wrap ``dask.get_annotations``, once; return whether clients will ask the wrapper."""
    with _install_lock:
        if not _dask_private.asks_get_annotations():
            guard.warn_once(
                "get_annotations",
                "This version of distributed does not ask dask.get_annotations: tasks that are submitted "
                "from threads or from inside tasks are not recorded.",
            )
            return False
        _dask_private.replace_get_annotations(_wrap_get_annotations, mark="_flowprov")
        return True


def _wrap_get_annotations(original: Any) -> Any:
    @functools.wraps(original)
    def get_annotations() -> dict[str, Any]:
        annotations: dict[str, Any] = original()
        try:
            frame = sys._getframe(1)  # noqa: SLF001 - the only way to know who asks
            if not _dask_private.is_submission(frame) or origin.ANNOTATION_KEY in annotations:
                return annotations
            annotation = annotation_for_submission(_dask_private.submitting_client(frame))
        except Exception as error:  # the guard: the submission goes on without an annotation
            guard.report_internal_error("finding the workflow of a Dask submission", error)
            return annotations
        return annotations if annotation is None else {**annotations, origin.ANNOTATION_KEY: annotation}

    get_annotations._flowprov = True  # type: ignore[attr-defined]  # noqa: SLF001 - the mark
    return get_annotations


def annotation_for_submission(client: Any) -> dict[str, Any] | None:
    """Return the annotation of tasks that are submitted here and now.

    Parameters
    ----------
    client
        The client through which they are submitted.

    Returns
    -------
    dict or None
        The annotation. It is empty for tasks of no workflow. None leaves the decision to the worker's
        environment.
    """
    scope = context.current.get()
    enclosing = _enclosing_client_workflow(scope, client)
    if enclosing is not None:
        return _annotate(enclosing.task_context, scope)
    execution = current_task.execution_around(scope) or current_task.current_execution()
    if execution is not None:
        return _annotate(execution.task_context, scope or execution.scope)
    candidates = _workflows_of_client(client)
    if len(candidates) == 1:
        return _annotate(candidates[0].task_context, None)
    execution = current_task.sole_execution_in_process()  # a thread that a task started
    if execution is not None:
        return _annotate(execution.task_context, None)
    return _ambiguous(len(candidates))


def _annotate(task_context: origin.TaskContext, scope: Scope | None) -> dict[str, Any]:
    """Return the annotation of a submission inside a scope."""
    parent_task_id = None if scope is None else context.recorded(scope).full_task_id()
    return origin.to_annotation(
        msgspec.structs.replace(task_context, parent_task_id=parent_task_id, submitted_at=clock.now())
    )


def _ambiguous(candidates: int) -> dict[str, Any] | None:
    if candidates:
        guard.warn_once(
            "ambiguous submission",
            "flowprov cannot tell to which of %d open workflows a Dask submission belongs: it was made in a "
            "thread that none of them reaches, and its tasks are not recorded. flowprov.bind(function) "
            "carries the workflow into a thread.",
            candidates,
        )
    _, inherited_workflow, _ = inheritance.inherited_ids(os.environ)
    return None if inherited_workflow is not None else {}


def _enclosing_client_workflow(scope: Scope | None, client: Any) -> ClientWorkflow | None:
    """Return the innermost workflow around a scope that was opened with a client."""
    while scope is not None:
        for client_workflow in _workflows_of_client(client):
            if client_workflow.scope.workflow_id == scope.workflow_id:
                return client_workflow
        scope = scope.previous or scope.parent
    return None


def _workflows_of_client(client: Any) -> list[ClientWorkflow]:
    """List the workflows that were opened with a client, else those with another client of its cluster."""
    every = list(client_workflows)
    own = [client_workflow for client_workflow in every if client_workflow.client() is client]
    if own or client is None:
        return own or every
    address = _dask_private.scheduler_address(client)
    return [
        client_workflow
        for client_workflow in every
        if address is not None and _dask_private.scheduler_address(client_workflow.client()) == address
    ]
