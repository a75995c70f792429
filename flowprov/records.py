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

from enum import Enum
from sys import intern
from typing import Annotated, Any, TypeAlias

import msgspec

from flowprov.ids import full_id
from flowprov.json_depth import depth_exceeds

SCHEMA_VERSION = 1

# Decoding refuses other numbers: no clock, process or count gives them, and not every reader could hold them.
Int64: TypeAlias = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
Count: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
Seconds: TypeAlias = Annotated[float, msgspec.Meta(ge=0, le=1e12)]

LocalId: TypeAlias = Int64 | str
JsonObject: TypeAlias = dict[str, Any]

MAX_DEPTH = 250
"""How deep the values of a line may be nested; what is recorded of a value has 8 levels."""

NOT_A_RECORD = (msgspec.MsgspecError, ValueError, RecursionError)
"""What :func:`decode` raises for a line that is no record.

ValueError: bytes that are not UTF-8. RecursionError: brackets nested by the thousand.
"""


class Status(str, Enum):
    """What became of a task or workflow."""

    SUBMITTED = "SUBMITTED"
    RUNNING = "RUNNING"
    FINISHED = "FINISHED"
    ERROR = "ERROR"
    INTERRUPTED = "INTERRUPTED"
    CANCELLED = "CANCELLED"


class Error(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The exception that ended a task or workflow."""

    type: str
    message: str = ""
    traceback: str | None = None


class _Record(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="type", gc=False):
    """Base of all lines of a journal.

    Values that were decoded from JSON hold no cycles, so the garbage collector does not track records. That
    halves the time to read a journal.
    """


class Campaign(_Record, frozen=True, kw_only=True, tag="campaign"):
    """A named effort to which workflows belong."""

    campaign_id: str
    name: str | None = None
    started_at: Int64 | None = None


class Workflow(_Record, frozen=True, kw_only=True, tag="workflow"):
    """One run of a program or of a part of it. It is written when it opens and again when it ends."""

    workflow_id: str
    campaign_id: str | None = None
    parent_workflow_id: str | None = None
    name: str | None = None
    subtype: str | None = None
    used: JsonObject | None = None
    generated: JsonObject | None = None
    custom_metadata: JsonObject | None = None
    machine_info: JsonObject | None = None
    settings: JsonObject | None = None
    user: str | None = None
    environment_id: str | None = None
    code_repository: JsonObject | None = None
    telemetry_at_start: JsonObject | None = None
    telemetry_at_end: JsonObject | None = None
    started_at: Int64 | None = None
    ended_at: Int64 | None = None
    status: str | None = None
    error: Error | None = None
    hostname: str | None = None
    pid: Int64 | None = None
    rank: Int64 | None = None
    attempt: Int64 | None = None  # readers count the attempts of a workflow; in a journal it is not there


class Task(_Record, frozen=True, kw_only=True, tag="task"):
    """One step: a function call, a loop iteration, a forward, a Dask task."""

    task_id: LocalId
    campaign_id: str | None = None
    workflow_id: str | None = None
    parent_task_id: LocalId | None = None
    activity_id: str | None = None
    group_id: LocalId | None = None
    subtype: str | None = None
    status: str | None = None
    used: JsonObject | None = None
    generated: JsonObject | None = None
    custom_metadata: JsonObject | None = None
    submitted_at: Int64 | None = None
    started_at: Int64 | None = None
    ended_at: Int64 | None = None
    error: Error | None = None
    telemetry_at_start: JsonObject | None = None
    telemetry_at_end: JsonObject | None = None
    hostname: str | None = None
    pid: Int64 | None = None
    rank: Int64 | None = None
    thread: str | None = None
    tags: list[str] | None = None
    dependencies: list[str] | None = None
    telemetry: bool | None = None  # False: the settings asked for no telemetry, so readers join none
    attempt: Int64 | None = None  # of its workflow, as readers count them; in a journal it is not there


class OpenTask(Task, frozen=True, kw_only=True, tag="open_task"):
    """A control record: a task that was open at a heartbeat, or to which the program gave something.

    It is read as a row only if no end follows: the record of the end repeats what was given. Further records
    of the same task add to the first one, and may leave out what is known from it.
    """


class Launch(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How a launcher started a process: as a rank of which job, and after how many restarts.

    Attributes
    ----------
    job
        Id of the job, the same in all its ranks and after every restart; None if nothing was unique to it.
    run
        How many runs of the same program there were in the job before.
    restart
        How often SLURM put the job into its queue again.
    agent, agent_restart
        Torchrun's agent, one on each node, and how often it restarted its processes.
    """

    job: str | None = None
    run: Int64 = 0
    restart: Int64 = 0
    agent: str | None = None
    agent_restart: Int64 = 0


class Header(_Record, frozen=True, kw_only=True, tag="header"):
    """The first line of a journal: what is the same for all its records.

    A forked child continues the numbers of its parent, from ``first_number`` on, so that a number from before
    the fork still names the same task. Smaller numbers belong to the ``ancestors``: (journal id, first
    number) of each, the oldest first. ``previous`` is the last of them that has a file.

    ``parent_pid`` is that of a process that was forked, or that multiprocessing started: another process ends
    it when it is no longer needed.
    """

    schema: Int64
    journal_id: str
    campaign_id: str
    hostname: str
    pid: Int64
    process_started_at: str | None = None
    started_at: Int64
    monotonic_ns: Int64
    rank: Int64 | None = None
    world_size: Int64 | None = None
    thread: str = "MainThread"
    flowprov: str = ""
    python: str = ""
    program: str | None = None
    settings_digest: str | None = None
    heartbeat_s: Seconds = 10.0
    first_number: Int64 = 0
    ancestors: list[tuple[str, Int64]] = []
    previous: str | None = None
    parent_pid: Int64 | None = None
    launch: Launch | None = None


class Heartbeat(_Record, frozen=True, kw_only=True, tag="heartbeat"):
    """A control record: the process was alive at this time, with these counts and open scopes.

    ``internal_errors`` holds those of the whole process so far, by activity and type.
    """

    at: Int64
    captured: Count = 0
    written: Count = 0
    dropped: dict[str, Count] | None = None
    open: list[LocalId] | None = None
    internal_errors: dict[str, Count] | None = None


class Sample(_Record, frozen=True, kw_only=True, tag="sample"):
    """A control record: one reading of the telemetry probes, by kind.

    It has either all ``values``, or the ``changes`` since the previous sample of its journal, as a JSON Merge
    Patch (RFC 7396).
    """

    at: Int64
    values: JsonObject | None = None
    changes: JsonObject | None = None


class Machine(_Record, frozen=True, kw_only=True, tag="machine"):
    """A control record: the machine and the versions of a process; written again when they change."""

    at: Int64
    values: JsonObject


class Correction(_Record, frozen=True, kw_only=True, tag="correction"):
    """A control record: what became known of a task after its record was written."""

    task_id: LocalId
    status: str | None = None
    error: Error | None = None
    used: JsonObject | None = None
    generated: JsonObject | None = None
    custom_metadata: JsonObject | None = None
    tags: list[str] | None = None


class Metrics(_Record, frozen=True, kw_only=True, tag="metrics"):
    """A control record: values that a program measured (``log_metrics``). It is no row.

    ``task_id`` is that of the task in which it was called, or of the iteration; None directly in a workflow.
    """

    at: Int64
    workflow_id: str
    task_id: LocalId | None = None
    step: Int64 | None = None
    values: JsonObject


class LeftOut(_Record, frozen=True, kw_only=True, tag="left_out"):
    """An internal task of Dask's. It is no row, but its dependencies connect the tasks around it.

    It is counted like a task, because without it a dependency could not be resolved.
    """

    workflow_id: str
    dask_key: str
    at: Int64
    dependencies: list[str] = []


class DaskWorker(_Record, frozen=True, kw_only=True, tag="dask_worker"):
    """A control record of a Dask client: a worker that its workflow reached, and where that one records.

    ``journal_id`` names the journal, ``journal`` its file as ``host/name``. ``reason`` says instead why the
    worker records nothing.
    """

    at: Int64
    workflow_id: str
    worker: str
    hostname: str | None = None
    pid: Int64 | None = None
    journal_id: str | None = None
    journal: str | None = None
    reason: str | None = None


class Participant(_Record, frozen=True, kw_only=True, tag="participant"):
    """A control record of a process whose child joined its campaign: where that one records.

    ``journal_id`` names the journal of the child, ``journal`` its file as ``host/name``. ``reason`` says
    instead why there is no such file in this buffer. A later record of the same journal replaces this one.
    """

    at: Int64
    pid: Int64
    hostname: str
    journal_id: str
    journal: str | None = None
    reason: str | None = None


class Footer(_Record, frozen=True, kw_only=True, tag="footer"):
    """The last line of a closed journal: how many records were captured, written, and dropped by reason.

    What is recorded after the end of its process follows behind it, with another footer: the last one counts.

    ``internal_errors`` holds those of the whole process so far, by activity and type.
    """

    at: Int64
    captured: Count
    written: Count
    dropped: dict[str, Count] | None = None
    open: list[LocalId] | None = None
    internal_errors: dict[str, Count] | None = None


_Control: TypeAlias = (
    Heartbeat | Sample | Machine | Correction | Metrics | LeftOut | DaskWorker | Participant | Footer
)
Record: TypeAlias = Campaign | Workflow | Task | OpenTask | Header | _Control

_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[Record] = msgspec.json.Decoder(Record)


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
