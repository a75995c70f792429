"""Where a Dask task comes from: what a client says of it in its annotations, and what a worker makes of that.

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
from flowprov.runtime import context, runtime
from flowprov.runtime.context import Scope

KEY = "flowprov"
"""The name of our annotation. An empty one says that a task belongs to no workflow."""


class TaskContext(msgspec.Struct, frozen=True, omit_defaults=True):
    """The workflow to which a task belongs, and how to reach it.

    Attributes
    ----------
    campaign_id, workflow_id
        Where the task belongs.
    parent_task_id
        The task, anywhere, that submitted it; None where a workflow did.
    buffer
        The buffer folder of the client, absolute.
    nonce
        The client's own journal, relative to ``buffer``. Its name exists once in the world: a process that
        finds it there sees the client's buffer, and not another folder of the same name.
    muted
        Nothing but the task itself is recorded.
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
    """Describe a workflow that is open here to the workers that will run tasks of it."""
    journal = scope.journal
    buffer, nonce = journal.settings.path, None
    if journal.path is not None:
        if not journal.path.is_relative_to(buffer):
            buffer = str(journal.path.parents[2])  # it went to the temporary folder
        nonce = str(journal.path.relative_to(buffer))
    return TaskContext(
        campaign_id=journal.identity.campaign_id,
        workflow_id=scope.workflow_id,
        buffer=buffer,
        nonce=nonce,
        muted=scope.muted,
    )


def annotation(origin: TaskContext) -> dict[str, Any]:
    """Give the form in which an origin travels."""
    made: dict[str, Any] = msgspec.to_builtins(origin)
    return made


def context_of_task(annotations: Mapping[str, Any] | None) -> TaskContext | None:
    """Read the origin of a task on its worker; None if it belongs to no workflow that is known.

    A task of a client that knows nothing of flowprov belongs to the workflow that was handed to the worker's
    process, if one was.

    Raises
    ------
    msgspec.ValidationError
        If the annotation is none of ours.
    """
    given = (annotations or {}).get(KEY)
    if given is None:
        campaign_id, workflow_id, parent_task_id = context.inherited_ids(os.environ)
        if workflow_id is None:
            return None
        return TaskContext(campaign_id or runtime.get().campaign_id(), workflow_id, parent_task_id)
    return msgspec.convert(given, TaskContext) if given else None


def journal_of(origin: TaskContext) -> Journal:
    """Give the journal of this process for tasks of an origin: beside the client's where that can be seen."""
    held = runtime.get()
    if origin.buffer is None:
        return held.journal(origin.campaign_id)
    if origin.nonce is not None and sees_buffer(origin.buffer, origin.nonce):
        return held.journal(origin.campaign_id, origin.buffer)
    guard.warn_once(
        f"buffer {origin.buffer}",
        "flowprov does not see the client's buffer %s from this Dask worker; its records go to %s on %s, and "
        "the client fetches them from there.",
        origin.buffer,
        held.settings.journal.path,
        os.uname().nodename,
    )
    return held.journal(origin.campaign_id)


@functools.lru_cache(maxsize=256)
def sees_buffer(buffer: str, nonce: str) -> bool:
    """Whether this process sees a client's buffer: the one in which the nonce is."""
    # Asked once for each client, so that all tasks of a workflow on a worker go to one place.
    return (Path(buffer) / nonce).exists()
