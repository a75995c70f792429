"""What Dask is told of each submission: the workflow and the task in which it was made.

Flows in: the workflows that are open with a Dask client, and the place of the caller. Flows out: an
annotation on the tasks that are submitted, from any thread, and from inside tasks.

Dask asks ``dask.get_annotations`` at every submission, for what a ``with dask.annotate(...)`` block holds.
Such a block would not be enough: threads that the program starts do not inherit it, and neither do tasks
that launch tasks. So the function is wrapped. The wrapper answers only to a client that submits; whatever
else asks gets what Dask gives (graphs would keep the annotation of the workflow in which they were built, and
dataframes warn of any).
"""

from __future__ import annotations

import functools
import os
import sys
import threading
import weakref
from typing import Any

import dask
import distributed.client
import msgspec

from flowprov import guard
from flowprov.capture.dask import current_task, origin
from flowprov.clock import clock
from flowprov.runtime import context
from flowprov.runtime.context import Scope


class ClientWorkflow:
    """A workflow that is open, and the client it was opened with."""

    def __init__(self, client: Any, scope: Scope) -> None:
        self.client = weakref.ref(client)
        self.scope = scope
        self.origin = origin.context_of_workflow(scope)


client_workflows: list[ClientWorkflow] = []
_installing = threading.Lock()


def install() -> bool:
    """Wrap ``dask.get_annotations``, once; says whether clients will ask the wrapper."""
    with _installing:
        asked = distributed.client.Client._graph_to_futures.__code__.co_names  # noqa: SLF001 - where it is asked
        if not {"dask", "get_annotations"} <= set(asked):
            guard.warn_once(
                "get_annotations",
                "This version of distributed does not ask dask.get_annotations: tasks that are submitted "
                "from threads or from inside tasks are not recorded.",
            )
            return False
        looked_up: Any = dask
        if not hasattr(looked_up.get_annotations, "_flowprov"):
            looked_up.get_annotations = _wrapped(looked_up.get_annotations)
        return True


def _wrapped(original: Any) -> Any:
    @functools.wraps(original)
    def get_annotations() -> dict[str, Any]:
        annotations: dict[str, Any] = original()
        try:
            asking = sys._getframe(1)  # noqa: SLF001 - who asks, and for which client
            if asking.f_globals.get("__name__") != "distributed.client" or origin.KEY in annotations:
                return annotations
            given = annotation_for_submission(asking.f_locals.get("self"))
        except Exception as error:  # the guard: a submission goes on without us
            guard.report_internal_error("finding the workflow of a Dask submission", error)
            return annotations
        return annotations if given is None else {**annotations, origin.KEY: given}

    get_annotations._flowprov = True  # type: ignore[attr-defined]  # noqa: SLF001 - our mark
    return get_annotations


def annotation_for_submission(client: Any) -> dict[str, Any] | None:
    """Say where tasks belong that are submitted here and now.

    Parameters
    ----------
    client
        The client through which they are.

    Returns
    -------
    dict or None
        The annotation; empty for tasks of no workflow, None to leave that to the worker's environment.
    """
    here = context.current.get()
    connection = _around(here, client)
    if connection is not None:
        return _annotate(connection.origin, here)
    execution = current_task.current_execution()
    if execution is not None:
        return _annotate(execution.origin, here or execution.scope)
    possible = _of_client(client)
    if len(possible) == 1:
        return _annotate(possible[0].origin, None)
    neighbour = current_task.sole_execution_in_process()  # a thread that a task started
    if neighbour is not None:
        return _annotate(neighbour.origin, None)
    return _ambiguous(len(possible))


def _annotate(given: origin.TaskContext, inside: Scope | None) -> dict[str, Any]:
    """Give the annotation for a submission inside a scope."""
    parent = None if inside is None else _task_of(inside)
    told = msgspec.structs.replace(given, parent_task_id=parent, submitted_at=clock.now())
    return origin.annotation(told)


def _ambiguous(possible: int) -> dict[str, Any] | None:
    if possible:
        guard.warn_once(
            "ambiguous submission",
            "flowprov cannot tell to which of %d open workflows a Dask submission belongs: it was made in a "
            "thread that none of them reaches, and its tasks are not recorded. flowprov.bind(function) "
            "carries the workflow into a thread.",
            possible,
        )
    _, inherited_workflow, _ = context.inherited_ids(os.environ)
    return None if inherited_workflow is not None else {}


def _around(scope: Scope | None, client: Any) -> ClientWorkflow | None:
    """Find the innermost workflow around a scope that was opened with a client."""
    while scope is not None:
        for connection in _of_client(client):
            if connection.scope.workflow_id == scope.workflow_id:
                return connection
        scope = scope.previous or scope.parent
    return None


def _of_client(client: Any) -> list[ClientWorkflow]:
    """List the workflows that were opened with a client, else with another client of the same cluster."""
    every = list(client_workflows)
    own = [connection for connection in every if connection.client() is client]
    if own or client is None:
        return own or every
    address = _address(client)
    return [each for each in every if address is not None and _address(each.client()) == address]


def _address(client: Any) -> str | None:
    return getattr(getattr(client, "scheduler", None), "address", None)


def _task_of(scope: Scope) -> str | None:
    """Give the full id of the innermost recorded task, None in a workflow."""
    while scope.parent is not None and not scope.recorded:
        scope = scope.parent
    return scope.full_task_id()
