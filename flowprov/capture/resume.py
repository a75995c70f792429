"""``resume_from``: what a program says when it goes on from where an earlier attempt stopped.

Flows in: a checkpoint, a step, an epoch, the id of a workflow. Flows out: an addition to the current
workflow, by which readers make one run of both attempts.
"""

from __future__ import annotations

from typing import Any

from flowprov import guard
from flowprov.capture import replay
from flowprov.capture.artifacts.calls import use_artifact
from flowprov.capture.artifacts.handle import Artifact
from flowprov.capture.log_calls import scope_of_call
from flowprov.capture.workflow_records import add_to_workflow
from flowprov.records import RESUMED_FROM
from flowprov.values import as_id


@replay.compiled_as(replay.not_recorded)
def resume_from(
    checkpoint: Any = None,
    *,
    step: int | None = None,
    epoch: int | None = None,
    workflow_id: str | None = None,
) -> None:
    """Record that the current workflow is a new attempt of an earlier run. It is in the journal at once.

    ``runs()`` and ``metrics()`` make one run of all its attempts. Call it before the training goes on.

    Parameters
    ----------
    checkpoint
        The file or folder from which the training goes on; it is recorded as used, by its content. Or the
        artifact that ``log_artifact`` returned for it.
    step, epoch
        How many steps and epochs the earlier attempts had done: the number of the next one, counted from 0.
    workflow_id
        The workflow of the earlier attempt. It need not be given if a checkpoint tells it.
    """
    scope = scope_of_call()
    if scope is None:
        return
    with guard.guarded("recording a resume"):
        given: dict[str, Any] = {
            "workflow_id": as_id(workflow_id),
            "checkpoint": None if checkpoint is None else _used(checkpoint),
            "step": _as_count(step, "step"),
            "epoch": _as_count(epoch, "epoch"),
        }
        known = {name: value for name, value in given.items() if value is not None}
        if not known:
            guard.warn_once(
                "resume_from without anything",
                "flowprov: resume_from was given nothing. Give it the checkpoint, or the workflow_id of the "
                "earlier attempt. The workflow is recorded as a run of its own.",
            )
            return
        add_to_workflow(scope, custom_metadata={RESUMED_FROM: known})


def _used(checkpoint: Any) -> Artifact:
    if isinstance(checkpoint, Artifact) and checkpoint.role == "used" and checkpoint.artifact_id is not None:
        return checkpoint
    return use_artifact(checkpoint, kind="checkpoint")


def _as_count(value: Any, name: str) -> int | None:
    if value is None:
        return None
    try:
        count = int(value)
    except (TypeError, ValueError, OverflowError):
        count = -1
    if count >= 0:
        return count
    guard.warn_once(
        f"{name} of resume_from",
        "flowprov: resume_from takes as %s how many were done, a number from 0 on; it was given %s. It is "
        "left out.",
        name,
        type(value).__name__ if not isinstance(value, int) else value,
    )
    return None
