"""How this process was launched: its campaign, and which run of its job it belongs to.

Flows in: what the launcher says, and the journals that are in the buffer already. Flows out: the campaign of
a process that was given none, and the launch that the header of its journals holds.

A step of SLURM can run a program several times, one after the other: a script that srun started, or a shell
in a terminal. Its variables are the same each time. A rank knows by the journals of its own predecessors how
many runs there were before, and so do all other ranks by theirs.
"""

from __future__ import annotations

import functools
import os
from pathlib import Path

from flowprov import guard
from flowprov.environment import dagster, launchers
from flowprov.environment.launchers import Job
from flowprov.environment.program import script_path
from flowprov.ids import new_id
from flowprov.journal import Identity
from flowprov.journal.format import SUFFIX, folder_name
from flowprov.journal.liveness import host_name, process_start
from flowprov.journal.reader import read_head
from flowprov.records import Campaign, Header, Launch
from flowprov.runtime import inheritance
from flowprov.settings import active_settings
from flowprov.version import __version__

_MAX_HEADERS = 500  # the latest journals of this host in the campaign, in which predecessors are looked for


def default_campaign_id() -> str:
    """Return the campaign of a caller that was given none: inherited, of its job or its run, or a new one."""
    if campaign_id := orchestrated_campaign_id() or _given_campaign_id():
        return campaign_id
    if launchers.is_without_job() and launchers.rank_and_world_size()[0] == 0:
        guard.warn_once(
            "mpi job",
            "flowprov cannot tell which ranks belong together: mpirun gives ranks on several hosts nothing "
            "in common, so each records a campaign of its own. Set FLOWPROV_CAMPAIGN_ID for all of them: "
            "mpirun -genv FLOWPROV_CAMPAIGN_ID $(uuidgen) ...",
        )
    campaign_id = new_id()
    _own_campaigns.add(campaign_id)
    return campaign_id


def orchestrated_campaign_id() -> str | None:
    """Return the campaign that all steps of the caller's run share: it has the id of the run of Dagster.

    It is None outside of a step, and where the process was given a campaign. One that a process above made up
    was given by nobody: a server that starts the processes of many runs may have one.
    """
    settings = active_settings()
    if settings is None or not settings.orchestrators or (run_id := dagster.run_id()) is None:
        return None
    given = _given_campaign_id()
    return run_id if given is None or is_made_up(given) else None


def is_made_up(campaign_id: str | None) -> bool:
    """Whether this process, or one above it, made up a campaign because it was given none."""
    if campaign_id in _own_campaigns:
        return True
    inherited, _, _ = inheritance.inherited_ids(os.environ)
    return inherited == campaign_id and inheritance.inherited_heritage(os.environ).made_up


def _given_campaign_id() -> str | None:
    """Return the campaign that this process inherited or shares with its job."""
    inherited, _, _ = inheritance.inherited_ids(os.environ)
    return inherited or launchers.campaign_id()


def identity(campaign_id: str, campaign: Campaign | None, buffer: str, settings_digest: str) -> Identity:
    """Return the facts about this process for the headers of its journals.

    Parameters
    ----------
    campaign_id, campaign
        The campaign, and the record that names it.
    buffer
        The folder in which its journals are.
    settings_digest
        The digest of the settings.
    """
    return Identity(
        campaign_id=campaign_id,
        campaign=campaign,
        hostname=host_name(),
        rank=launchers.rank_and_world_size()[0],
        world_size=shared_world_size(campaign_id),
        program=program(),
        settings_digest=settings_digest,
        flowprov=__version__,
        launch=launch_of(campaign_id, buffer),
        local_rank=launchers.local_rank(),
        launcher=launchers.launcher(),
        job=launchers.job_name(),
    )


def shared_world_size(campaign_id: str) -> int | None:
    """Return of how many ranks a campaign has journals; None if that is not known, or of this one alone."""
    if campaign_id in _own_campaigns or launchers.is_helper():
        return None
    return launchers.certain_world_size()


def workflow_id(campaign_id: str, name: str, ordinal: int) -> str | None:
    """Return the id of a workflow that every rank of this job opens; None for a process on its own.

    Parameters
    ----------
    campaign_id, name
        The workflow's campaign and name.
    ordinal
        How many workflows of that name this process opened before.
    """
    settings = active_settings()
    launch = None if settings is None else launch_of(campaign_id, settings.journal.path)
    return None if launch is None else launchers.workflow_id(campaign_id, name, ordinal, launch.run)


def launch_of(campaign_id: str, buffer: str) -> Launch | None:
    """Return how this process was launched; None if no launcher started it.

    Parameters
    ----------
    campaign_id, buffer
        The campaign, and the folder in which its journals are.
    """
    job = launchers.current_job()
    return None if job is None else _launch_of(job, campaign_id, buffer)


@functools.lru_cache(maxsize=64)
def _launch_of(job: Job, campaign_id: str, buffer: str) -> Launch:
    run = 0
    # Torchrun's restarts cannot be told from further runs in this way, and its jobs have a name of their own.
    if job.job_id is not None and job.agent is None:
        folder = Path(buffer) / folder_name(campaign_id) / folder_name(host_name())
        run = _next_run(job, folder)
    return Launch(
        job=job.job_id, run=run, restart=job.restart, agent=job.agent, agent_restart=job.agent_restart
    )


def _next_run(job: Job, folder: Path) -> int:
    """Return the number of the next run of this program on this rank, as its journals show it."""
    try:
        paths = [path for path in folder.iterdir() if path.suffix == SUFFIX]
    except OSError:
        return 0
    paths.sort(key=lambda path: path.name.partition("-")[2])  # journal ids sort by time
    launches = (_launch_before(job, path) for path in paths[-_MAX_HEADERS:])
    return 1 + max((launch.run for launch in launches if launch is not None), default=-1)


def _launch_before(job: Job, path: Path) -> Launch | None:
    """Return the launch of another process that had this process's place in the same job."""
    try:
        header = read_head(path).header
    except OSError:
        return None
    if header is None or header.launch is None or header.ancestors or _is_own(header):
        return None
    place = (header.launch.job, header.launch.restart, header.rank, header.program)
    rank, _ = launchers.rank_and_world_size()
    return header.launch if place == (job.job_id, job.restart, rank, program()) else None


def program() -> str | None:
    """Return the file name of the program that this process runs."""
    path = script_path()
    return None if path is None else Path(path).name


def _is_own(header: Header) -> bool:
    return (header.pid, header.process_started_at) == (os.getpid(), process_start())


_own_campaigns: set[str] = set()
