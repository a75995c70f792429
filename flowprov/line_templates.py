"""The line templates: the bytes from which the hot path puts a record together.

Flows in: encoded fields, as bytes. Flows out: lines, each of which is a record of :mod:`flowprov.records`.

To encode a struct would cost more than all the rest of a captured event. A test fills every template and
decodes the line to the struct that the template names, so that the two stay equal.
"""

from __future__ import annotations

START_FIELDS = b'"task_id":%d%b,"started_at":%d,"used":%b'
"""The fields of a :class:`~flowprov.records.Task` that are known at its start: number, further fields, start
time, encoded inputs."""

OPEN_TASK = b'{"type":"open_task",%b,"status":"RUNNING"%b}\n'
"""An :class:`~flowprov.records.OpenTask`: the start fields, further fields."""

ADDITION = b'{"type":"open_task","task_id":%d%b}\n'
"""An :class:`~flowprov.records.OpenTask` that adds to an earlier one: number, further fields."""

TASK = b'{"type":"task",' + START_FIELDS + b',"status":"%b","ended_at":%d%b%b}\n'
"""A :class:`~flowprov.records.Task` that ended: the start fields, status, end time, the field of its outputs,
further fields."""

UNFINISHED_TASK = b'{"type":"task",%b,"status":"%b","ended_at":%d%b}\n'
"""A :class:`~flowprov.records.Task` that did not end by itself: the start fields, status, end time, further
fields."""

DASK_TASK = b'{"type":"task","task_id":%d%b,"started_at":%d,"status":"%b","custom_metadata":%b%b}\n'
"""A :class:`~flowprov.records.Task` that Dask runs: number, further fields, start time, status, custom
metadata, the fields that are known at its end."""


def iteration(prefix: bytes) -> bytes:
    """Return the template of a loop's iterations: number, start time, inputs, end time, field of outputs.

    Parameters
    ----------
    prefix
        The fields that all iterations of one loop pass share, each with a comma before it.
    """
    return (
        b'{"type":"task","task_id":%d'
        + literal(prefix)
        + b',"started_at":%d,"used":%b,"status":"FINISHED","ended_at":%d%b}\n'
    )


def open_iteration(prefix: bytes) -> bytes:
    """Return the template of a loop's open iterations: number, start time, inputs, outputs.

    Parameters
    ----------
    prefix
        As for :func:`iteration`.
    """
    return (
        b'{"type":"open_task","task_id":%d'
        + literal(prefix)
        + b',"started_at":%d,"used":%b,"status":"RUNNING","generated":%b}\n'
    )


def literal(text: bytes) -> bytes:
    """Return the bytes that a template needs in order to contain ``text`` as it is."""
    return text.replace(b"%", b"%%")
