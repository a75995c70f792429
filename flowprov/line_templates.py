"""The lines that the hot path puts together by hand: one template for each kind.

Flows in: ready pieces, as bytes. Flows out: lines, each of which means a record of :mod:`flowprov.records`.
Encoding a struct would cost more than the whole of a captured event. A test fills every template and reads it
back as the struct that it names, so that the two cannot drift apart.
"""

from __future__ import annotations

START_FIELDS = b'"task_id":%d%b,"started_at":%d,"used":%b'
"""Of :class:`~flowprov.records.Task`, what is known at its start: number, further fields, start, inputs."""

OPEN_TASK = b'{"type":"open_task",%b,"status":"RUNNING"}\n'
""":class:`~flowprov.records.OpenTask`: the start fields."""

TASK = b'{"type":"task",' + START_FIELDS + b',"status":"%b","ended_at":%d%b%b}\n'
""":class:`~flowprov.records.Task` at its end: start fields, status, end, outputs, further fields."""

ABANDONED_TASK = b'{"type":"task",%b,"status":"ERROR","ended_at":%d,"error":%b}\n'
""":class:`~flowprov.records.Task` whose own end never ran: the start fields, end, error."""

DASK_TASK = b'{"type":"task","task_id":%d%b,"started_at":%d,"status":"%b","custom_metadata":%b%b}\n'
""":class:`~flowprov.records.Task` that Dask runs: number, fields, start, status, metadata, the rest."""


def iteration(prefix: bytes) -> bytes:
    """Return the template of a loop's iterations: number, start, inputs, end, outputs.

    Parameters
    ----------
    prefix
        The fields that all iterations of one pass share, each with its comma in front.
    """
    return (
        b'{"type":"task","task_id":%d'
        + literal(prefix)
        + b',"started_at":%d,"used":%b,"status":"FINISHED","ended_at":%d%b}\n'
    )


def literal(text: bytes) -> bytes:
    """Return bytes that stand for themselves inside a template."""
    return text.replace(b"%", b"%%")
