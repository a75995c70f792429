"""The header of a journal: the facts about its process that hold for all its records.

Flows in: campaign, host, rank and program, from the runtime. Flows out: the first record of the journal.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading

import msgspec

from flowprov import records
from flowprov.clock import clock, ticks
from flowprov.journal.liveness import process_start
from flowprov.values import as_name


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """The facts about a process that the headers of its journals hold."""

    campaign_id: str
    campaign: records.Campaign | None = None
    hostname: str
    rank: int | None = None
    world_size: int | None = None
    program: str | None = None
    settings_digest: str | None = None
    flowprov: str = ""
    launch: records.Launch | None = None
    local_rank: int | None = None
    launcher: str | None = None
    job: str | None = None


def make_header(
    identity: Identity,
    journal_id: str,
    *,
    heartbeat_s: float,
    first_number: int,
    ancestors: list[tuple[str, int]],
    previous: str | None = None,
) -> records.Header:
    """Return the header of a journal that this process creates now.

    Parameters
    ----------
    identity
        The facts about the process.
    journal_id
        Id of the journal.
    heartbeat_s
        Seconds between two heartbeats.
    first_number, ancestors
        The first number of its tasks, and the journals to which lower numbers belong.
    previous
        The last of these journals that has a file.
    """
    return records.Header(
        schema=records.SCHEMA_VERSION,
        journal_id=journal_id,
        campaign_id=identity.campaign_id,
        hostname=as_name(identity.hostname, ""),
        pid=os.getpid(),
        process_started_at=process_start(),
        started_at=clock.now(),
        monotonic_ns=ticks(),
        rank=identity.rank,
        world_size=identity.world_size,
        thread=as_name(threading.main_thread().name, ""),
        flowprov=identity.flowprov,
        python=sys.version.split()[0],
        program=as_name(identity.program),
        settings_digest=identity.settings_digest,
        heartbeat_s=heartbeat_s,
        first_number=first_number,
        ancestors=ancestors,
        previous=previous,
        parent_pid=_parent_pid(),
        launch=identity.launch,
        local_rank=identity.local_rank,
        launcher=identity.launcher,
        job=as_name(identity.job),
    )


def _parent_pid() -> int | None:
    """Return the parent of a process that was forked, or that multiprocessing started; else None."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        return parent.pid
    return os.getppid() if os.getpid() != _PROCESS else None


_PROCESS = os.getpid()
