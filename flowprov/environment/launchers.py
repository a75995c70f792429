"""What a launcher tells a process: its rank, and the ids that it shares with the other ranks of its job.

Flows in: the environment variables that torchrun, SLURM or MPI set. Flows out: rank and world size, and ids
that every rank of a job derives by itself and that are equal in all of them.
"""

from __future__ import annotations

import os
import uuid

# Any fixed namespace will do, if every rank of every version uses the same.
_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "https://flowprov/launchers")


def rank_and_world_size() -> tuple[int | None, int | None]:
    """Return rank and world size of this process; None for both if it was not launched as one of several."""
    for rank_name, size_name in (
        ("RANK", "WORLD_SIZE"),
        ("SLURM_PROCID", "SLURM_NTASKS"),
        ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
    ):
        rank, size = os.environ.get(rank_name, ""), os.environ.get(size_name, "")
        if rank.isdigit() and size.isdigit():
            return int(rank), int(size)
    return None, None


def job_name() -> str | None:
    """Return a unique name of the job that this rank belongs to, None if no variable is unique to the job.

    ``torchrun`` gives each job a run id of its own. If the user named the run id, the port of the rendezvous
    is still a new one for each job. With the static rendezvous the run id is "none", and nothing is unique.
    """
    run_id = os.environ.get("TORCHELASTIC_RUN_ID")
    if run_id and run_id != "none":
        port = os.environ.get("MASTER_PORT", "")
        return f"torchrun {run_id} {os.environ.get('MASTER_ADDR', '')}:{port}"
    slurm_job = os.environ.get("SLURM_JOB_ID")
    if slurm_job and os.environ.get("SLURM_STEP_ID"):
        return f"slurm {slurm_job} {os.environ['SLURM_STEP_ID']}"
    return None


def campaign_id() -> str | None:
    """Return the id of the campaign that all ranks of this job share, None for a process on its own."""
    _, size = rank_and_world_size()
    name = job_name() if size is not None and size > 1 else None
    return None if name is None else _derived_id(name)


def workflow_id(campaign: str, name: str, ordinal: int) -> str | None:
    """Return the id of a workflow that every rank opens, None for a process on its own.

    Parameters
    ----------
    campaign
        The id of the workflow's campaign.
    name
        The name of the workflow.
    ordinal
        How many workflows of that name this process opened before.
    """
    _, size = rank_and_world_size()
    if size is None or size < 2 or job_name() is None:
        return None
    return _derived_id(f"{campaign} {name} {ordinal}")


def _derived_id(name: str) -> str:
    """Return the id that every rank derives from a name; variables may hold what UTF-8 cannot."""
    return str(uuid.uuid5(_NAMESPACE, name.encode("utf-8", "backslashreplace").decode()))
