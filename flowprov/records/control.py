"""The control records of a journal: whose it is, how it went on, and what became known later.

They are no rows. Readers add what they say to the rows of tasks and workflows, or check the journal by them.
"""

from __future__ import annotations

import msgspec

from flowprov.ids import full_id
from flowprov.records.base import Count, Error, Int64, JsonObject, LocalId, RecordBase, Seconds


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


class Header(RecordBase, frozen=True, kw_only=True, tag="header"):
    """The first line of a journal: what is the same for all its records.

    A forked child continues the numbers of its parent, from ``first_number`` on, so that a number from before
    the fork still names the same task. Smaller numbers belong to the ``ancestors``: (journal id, first
    number) of each, the oldest first. ``previous`` is the last of them that has a file.

    ``parent_pid`` is that of a process that was forked, or that multiprocessing started: another process ends
    it when it is no longer needed.

    ``launcher`` is ``torchrun``, ``slurm``, ``openmpi`` or ``mpich``, ``local_rank`` the rank among those of
    the node, and ``job`` the launcher's own name of the job.
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
    ancestors: list[tuple[str, Int64]] = msgspec.field(default_factory=list)
    previous: str | None = None
    parent_pid: Int64 | None = None
    launch: Launch | None = None
    local_rank: Int64 | None = None
    launcher: str | None = None
    job: str | None = None

    def full_id(self, local: LocalId) -> str:
        """Return the full form of the id of a task or artifact, which may be a number of this journal."""
        return full_id(local, self.journal_id, self.ancestors, self.first_number)


class Heartbeat(RecordBase, frozen=True, kw_only=True, tag="heartbeat"):
    """A control record: the process was alive at this time, with these counts and open scopes.

    ``internal_errors`` holds those of the whole process so far, by activity and type.
    """

    at: Int64
    captured: Count = 0
    written: Count = 0
    dropped: dict[str, Count] | None = None
    open: list[LocalId] | None = None
    internal_errors: dict[str, Count] | None = None


class Sample(RecordBase, frozen=True, kw_only=True, tag="sample"):
    """A control record: one reading of the telemetry probes, by kind.

    It has either all ``values``, or the ``changes`` since the previous sample of its journal, as a JSON Merge
    Patch (RFC 7396).
    """

    at: Int64
    values: JsonObject | None = None
    changes: JsonObject | None = None


class Machine(RecordBase, frozen=True, kw_only=True, tag="machine"):
    """A control record: the machine and the versions of a process; written again when they change."""

    at: Int64
    values: JsonObject


class Correction(RecordBase, frozen=True, kw_only=True, tag="correction"):
    """A control record: what became known of a task after its record was written."""

    task_id: LocalId
    status: str | None = None
    error: Error | None = None
    used: JsonObject | None = None
    generated: JsonObject | None = None
    custom_metadata: JsonObject | None = None
    tags: list[str] | None = None


class Metrics(RecordBase, frozen=True, kw_only=True, tag="metrics"):
    """A control record: values that a program measured (``log_metrics``). It is no row.

    ``task_id`` is that of the task in which it was called, or of the iteration; None directly in a workflow.
    """

    at: Int64
    workflow_id: str
    task_id: LocalId | None = None
    step: Int64 | None = None
    values: JsonObject


class LeftOut(RecordBase, frozen=True, kw_only=True, tag="left_out"):
    """An internal task of Dask's. It is no row, but its dependencies connect the tasks around it.

    It is counted like a task, because without it a dependency could not be resolved.
    """

    workflow_id: str
    dask_key: str
    at: Int64
    dependencies: list[str] = msgspec.field(default_factory=list)


class DaskWorker(RecordBase, frozen=True, kw_only=True, tag="dask_worker"):
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


class Participant(RecordBase, frozen=True, kw_only=True, tag="participant"):
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


class Footer(RecordBase, frozen=True, kw_only=True, tag="footer"):
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
