"""One run of a Dask task, and what stands for one that this process does not record.

Flows in: where a task belongs, and its fields, encoded. Flows out: the scope of what runs inside, and the
lines of the task.
"""

from __future__ import annotations

from typing import Any

import msgspec

from flowprov.capture.dask import origin
from flowprov.journal import Journal
from flowprov.line_templates import DASK_TASK
from flowprov.records import Status
from flowprov.runtime import runtime
from flowprov.runtime.context import Scope


class Execution(msgspec.Struct, eq=False):
    """A task that runs now.

    Attributes
    ----------
    scope
        The scope of what is inside. Its ``line_prefix`` holds the fields that both records of the task share.
    task_context
        Where the task belongs.
    metadata
        Its custom metadata, encoded.
    started_at
        Start by the wall clock, in nanoseconds.
    """

    scope: Scope
    task_context: origin.TaskContext
    metadata: bytes
    started_at: int

    @classmethod
    def without_record(
        cls, journal: Journal, task_context: origin.TaskContext, task_id: str | None
    ) -> Execution:
        """Return what stands for a task whose record this process does not write, or for its workflow.

        Parameters
        ----------
        journal
            The journal for what is inside.
        task_context
            Where the task belongs.
        task_id
            The full id of the task; None for the workflow itself.
        """
        muted = task_context.muted or not runtime.get().capturing
        scope = Scope(journal, None, task_context.workflow_id, muted=muted)
        if task_id is not None:
            scope = Scope(journal, task_id, task_context.workflow_id, parent=scope, muted=muted)
        execution = cls(scope, task_context, b"", 0)
        scope.opener = execution
        return execution

    def line(self, status: Status, metadata: bytes, tail: bytes) -> bytes:
        """Return a line of the task. The arguments are fields of :class:`~flowprov.records.Task`, encoded."""
        key: Any = self.scope.key
        return DASK_TASK % (
            key,
            self.scope.line_prefix,
            self.started_at,
            _STATUS[status],
            metadata,
            tail,
        )


_STATUS = {status: status.value.encode() for status in Status}
