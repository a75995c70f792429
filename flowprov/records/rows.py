"""The records that become rows for readers: campaigns, workflows and tasks.

Flows in: ids, times and encoded values. Flows out: structs.
"""

from __future__ import annotations

from flowprov.records.base import Error, Int64, JsonObject, LocalId, RecordBase


class Campaign(RecordBase, frozen=True, kw_only=True, tag="campaign"):
    """A named effort to which workflows belong."""

    campaign_id: str
    name: str | None = None
    started_at: Int64 | None = None


class Workflow(RecordBase, frozen=True, kw_only=True, tag="workflow"):
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
    orchestrator: JsonObject | None = None
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


class Task(RecordBase, frozen=True, kw_only=True, tag="task"):
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
