"""Where a Dask task comes from: what a client writes into its annotations, and how a worker reads it.

Flows in: on the client, an open workflow; on the worker, the annotations of a task, or the environment of the
worker's process. Flows out: the workflow and parent of the task, and the journal for its records.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from flowprov import guard
from flowprov.journal import Journal
from flowprov.journal.liveness import host_name
from flowprov.runtime import inheritance, runtime
from flowprov.runtime.context import Scope

ANNOTATION_KEY = "flowprov"
"""The name of flowprov's annotation. An empty annotation means that a task belongs to no workflow."""


class TaskContext(msgspec.Struct, frozen=True, omit_defaults=True):
    """The workflow to which a task belongs, and how to reach it.

    Attributes
    ----------
    campaign_id, workflow_id
        Where the task belongs.
    parent_task_id
        The task, in any process, that submitted it; None if a workflow did.
    buffer
        The buffer folder of the client, absolute.
    nonce
        The client's own journal, relative to ``buffer``. Its name exists only once. A process that finds it
        there sees the client's buffer, and not another folder of the same path.
    muted
        Nothing inside the task is recorded.
    submitted_at
        Wall clock time of the submission, in nanoseconds.
    """

    campaign_id: str
    workflow_id: str
    parent_task_id: str | None = None
    buffer: str | None = None
    nonce: str | None = None
    muted: bool = False
    submitted_at: int | None = None


def context_of_workflow(scope: Scope) -> TaskContext:
    """Return the context of the tasks of a workflow that is open in this process."""
    journal = scope.journal
    buffer, nonce = journal.settings.path, None
    if journal.path is not None:
        if not journal.path.is_relative_to(buffer):
            buffer = str(journal.path.parents[2])  # the journal fell back to the temporary folder
        nonce = str(journal.path.relative_to(buffer))
    return TaskContext(
        campaign_id=journal.identity.campaign_id,
        workflow_id=scope.workflow_id,
        buffer=buffer,
        nonce=nonce,
        muted=scope.muted,
    )


def to_annotation(task_context: TaskContext) -> dict[str, Any]:
    """Return the annotation in which a task context travels."""
    annotation: dict[str, Any] = msgspec.to_builtins(task_context)
    return annotation


def context_of_task(annotations: Mapping[str, Any] | None) -> TaskContext | None:
    """Read the context of a task on its worker; return None if it belongs to no known workflow.

    A task of a client that does not use flowprov belongs to the workflow that the worker's process inherited,
    if it inherited one.

    Raises
    ------
    msgspec.ValidationError
        If the annotation is not flowprov's.
    """
    annotation = (annotations or {}).get(ANNOTATION_KEY)
    if annotation is None:
        campaign_id, workflow_id, parent_task_id = inheritance.inherited_ids(os.environ)
        if workflow_id is None:
            return None
        return TaskContext(campaign_id or runtime.get().campaign_id(), workflow_id, parent_task_id)
    return msgspec.convert(annotation, TaskContext) if annotation else None


def journal_of(task_context: TaskContext) -> Journal:
    """Return the journal of this process for tasks of a context: in the client's buffer, if it is visible."""
    active = runtime.get()
    if task_context.buffer is None:
        return active.journal(task_context.campaign_id)
    if task_context.nonce is not None and sees_buffer(task_context.buffer, task_context.nonce):
        return active.journal(task_context.campaign_id, task_context.buffer)
    guard.warn_once(
        f"buffer {task_context.buffer}",
        "flowprov does not see the client's buffer %s from this Dask worker; its records go to %s on %s, and "
        "the client fetches them from there.",
        task_context.buffer,
        active.settings.journal.path,
        host_name(),
    )
    return active.journal(task_context.campaign_id)


@functools.lru_cache(maxsize=256)
def sees_buffer(buffer: str, nonce: str) -> bool:
    """Whether this process sees a client's buffer: the folder that holds the nonce."""
    # Looked up once for each client, so that all tasks of a workflow on a worker go to one folder.
    return (Path(buffer) / nonce).exists()
