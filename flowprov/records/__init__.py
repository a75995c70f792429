"""The records of a campaign: the lines of journals, as structs.

Flows in: ids, times and encoded values from capture. Flows out: frozen structs for readers, and the bytes of
every line that is not written on the hot path. The hot path uses :mod:`flowprov.line_templates` instead.

Field names are those of W3C PROV (``used``, ``generated``) and of the frameworks. Times are wall clock times,
in integer nanoseconds since the epoch. ``ended_at - started_at`` was measured by a monotonic clock.

Inside a journal, a task id, group id or parent id may be an integer: the number of a task of that journal.
Its full form is ``<journal id>-<number>``. What is the same for all records of a journal (host, pid,
campaign, rank) is in its header only. Readers fill in both with :func:`complete_task` and
:func:`complete_workflow`.
"""

from __future__ import annotations

from flowprov.records.base import (
    Count,
    Error,
    Int64,
    JsonObject,
    LocalId,
    Seconds,
    Status,
)
from flowprov.records.control import (
    Correction,
    DaskWorker,
    Footer,
    Header,
    Heartbeat,
    Launch,
    LeftOut,
    Machine,
    Metrics,
    Participant,
    Sample,
)
from flowprov.records.encoding import (
    BEGINNING,
    COUNTED,
    MAX_DEPTH,
    NOT_A_RECORD,
    SCHEMA_VERSION,
    Record,
    all_as_written,
    as_written,
    complete_task,
    complete_workflow,
    decode,
    encode,
    json_schema,
    prefix_of,
)
from flowprov.records.lineage import (
    RESUMED_FROM,
    Artifact,
    Batch,
    Digest,
    LoaderPass,
    Version,
)
from flowprov.records.rows import (
    Campaign,
    OpenTask,
    Task,
    Workflow,
)

__all__ = [
    "BEGINNING",
    "COUNTED",
    "MAX_DEPTH",
    "NOT_A_RECORD",
    "RESUMED_FROM",
    "SCHEMA_VERSION",
    "Artifact",
    "Batch",
    "Campaign",
    "Correction",
    "Count",
    "DaskWorker",
    "Digest",
    "Error",
    "Footer",
    "Header",
    "Heartbeat",
    "Int64",
    "JsonObject",
    "Launch",
    "LeftOut",
    "LoaderPass",
    "LocalId",
    "Machine",
    "Metrics",
    "OpenTask",
    "Participant",
    "Record",
    "Sample",
    "Seconds",
    "Status",
    "Task",
    "Version",
    "Workflow",
    "all_as_written",
    "as_written",
    "complete_task",
    "complete_workflow",
    "decode",
    "encode",
    "json_schema",
    "prefix_of",
]
