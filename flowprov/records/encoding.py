"""Records as lines of JSON, and rows completed by the header of their journal.

Flows in: records, or lines of a journal, which may be anybody's. Flows out: the other of the two.
"""

from __future__ import annotations

from sys import intern
from typing import Any, TypeAlias

import msgspec

from flowprov.ids import full_id
from flowprov.json_depth import depth_exceeds
from flowprov.records.base import JsonObject
from flowprov.records.control import (
    Correction,
    DaskWorker,
    Footer,
    Header,
    Heartbeat,
    LeftOut,
    Machine,
    Metrics,
    Participant,
    Sample,
)
from flowprov.records.lineage import Artifact, Batch, Digest, LoaderPass, Version
from flowprov.records.rows import Campaign, OpenTask, Task, Workflow

SCHEMA_VERSION = 1

MAX_DEPTH = 250
"""How deep the values of a line may be nested; what is recorded of a value has 8 levels."""

NOT_A_RECORD = (msgspec.MsgspecError, ValueError, RecursionError)
"""What :func:`decode` raises for a line that is no record.

ValueError: bytes that are not UTF-8. RecursionError: brackets nested by the thousand.
"""

COUNTED = (Task, Workflow, LeftOut, Artifact, LoaderPass, Batch)
"""The records that count as events of a journal: a lost one is a lost answer."""

_Control: TypeAlias = (
    Heartbeat
    | Sample
    | Machine
    | Correction
    | Metrics
    | LeftOut
    | Artifact
    | Digest
    | Version
    | LoaderPass
    | Batch
    | DaskWorker
    | Participant
    | Footer
)
Record: TypeAlias = Campaign | Workflow | Task | OpenTask | Header | _Control

_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[Record] = msgspec.json.Decoder(Record)


def prefix_of(kind: type[Any]) -> bytes:
    """Return how each line of a kind of records begins."""
    return b'{"type":"%s"' % str(kind.__struct_config__.tag).encode()


BEGINNING = b'{"type":"'
"""How each line begins that :func:`encode` made."""


def as_written(line: bytes) -> bytes:
    """Return a line as :func:`encode` spells it: a program may have written it anew, in JSON of its own.

    Many readers look at how a line begins before they decode it. What is no record is returned as it is.
    """
    if line.startswith(BEGINNING):
        return line
    try:
        content = msgspec.json.decode(line)
        return msgspec.json.encode({"type": content["type"], **content})
    except (*NOT_A_RECORD, TypeError, LookupError, OverflowError):
        return line


def all_as_written(block: bytes) -> bytes:
    """Return lines as :func:`as_written` does; they are looked at only if one of them begins otherwise."""
    begins_otherwise = block.startswith(b"{") and not block.startswith(BEGINNING)
    if not begins_otherwise and block.count(b"\n{") == block.count(b"\n" + BEGINNING):
        return block
    return b"\n".join(map(as_written, block.split(b"\n")))


def encode(record: Record) -> bytes:
    """Return a record as one line of JSON, with its newline."""
    return _encoder.encode(record) + b"\n"


def decode(line: bytes) -> Record:
    """Return the record of one line.

    Raises
    ------
    msgspec.DecodeError, msgspec.ValidationError, ValueError, RecursionError
        If the line is not JSON, or if this version does not know such a record; see :data:`NOT_A_RECORD`.
    """
    if not line.isascii():
        line.decode()  # names of fields that are not known are not looked at
    record = _decoder.decode(line)
    if depth_exceeds(line, MAX_DEPTH):
        raise RecursionError(f"nested more than {MAX_DEPTH} deep")
    return record


def complete_task(task: Task, header: Header, attempt: int | None = None) -> Task:
    """Return a task with its full ids and with the fields that are only in the header of its journal.

    Parameters
    ----------
    task, header
        The task, and the header of its journal.
    attempt
        The attempt of its workflow, if that is known.
    """
    numbering = (header.journal_id, header.ancestors, header.first_number)
    return msgspec.structs.replace(
        task,  # names that many tasks share are one object: a million tasks take 220 MB less
        workflow_id=_shared(task.workflow_id),
        activity_id=_shared(task.activity_id),
        subtype=_shared(task.subtype),
        status=_shared(task.status),
        task_id=full_id(task.task_id, *numbering),
        parent_task_id=None if task.parent_task_id is None else full_id(task.parent_task_id, *numbering),
        group_id=None if task.group_id is None else full_id(task.group_id, *numbering),
        campaign_id=task.campaign_id or header.campaign_id,
        hostname=task.hostname or header.hostname,
        pid=header.pid if task.pid is None else task.pid,
        rank=header.rank if task.rank is None else task.rank,
        thread=task.thread or header.thread,
        attempt=attempt,
    )


def _shared(text: str | None) -> str | None:
    return intern(text) if type(text) is str else text


def complete_workflow(workflow: Workflow, header: Header) -> Workflow:
    """Return a workflow with the fields that are only in the header of its journal."""
    return msgspec.structs.replace(
        workflow,
        campaign_id=workflow.campaign_id or header.campaign_id,
        hostname=workflow.hostname or header.hostname,
        pid=header.pid if workflow.pid is None else workflow.pid,
        rank=header.rank if workflow.rank is None else workflow.rank,
    )


def json_schema() -> JsonObject:
    """Return the JSON Schema of every line of a journal, for schema version :data:`SCHEMA_VERSION`."""
    return msgspec.json.schema(Record)
