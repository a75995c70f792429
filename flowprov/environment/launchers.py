"""What the launcher of a process says of it: its rank, and what it shares with the other ranks of its job.

Flows in: the environment that torchrun, SLURM or MPI set. Flows out: rank and world size, and a campaign id
that all ranks of a job derive alike.
"""

from __future__ import annotations

import os
import uuid

# Any fixed namespace will do, as long as every rank of every version uses the same.
_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "https://flowprov/launchers")


def rank() -> tuple[int | None, int | None]:
    """Give (rank, world size) of this process, None where it was not launched as one of several."""
    for rank_name, size_name in (
        ("RANK", "WORLD_SIZE"),
        ("SLURM_PROCID", "SLURM_NTASKS"),
        ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
    ):
        own, size = os.environ.get(rank_name, ""), os.environ.get(size_name, "")
        if own.isdigit() and size.isdigit():
            return int(own), int(size)
    return None, None


def job() -> str | None:
    """Name the job that this rank belongs to, in words that are unique to it; None where nothing is.

    ``torchrun`` gives each job a run id of its own unless the user named one (then the rendezvous port is
    drawn anew for each job) or chose the static rendezvous (the id is then "none", and nothing is unique).
    """
    run = os.environ.get("TORCHELASTIC_RUN_ID")
    if run and run != "none":
        restarts = os.environ.get("MASTER_PORT", "")
        return f"torchrun {run} {os.environ.get('MASTER_ADDR', '')}:{restarts}"
    slurm = os.environ.get("SLURM_JOB_ID")
    if slurm and os.environ.get("SLURM_STEP_ID"):
        return f"slurm {slurm} {os.environ['SLURM_STEP_ID']}"
    return None


def campaign_id() -> str | None:
    """Give the campaign that all ranks of this job share, None for a process on its own."""
    _, size = rank()
    name = job() if size is not None and size > 1 else None
    return None if name is None else str(uuid.uuid5(_NAMESPACE, name))


def workflow_id(campaign: str, name: str, ordinal: int) -> str | None:
    """Give the id of a workflow that every rank opens, None for a process on its own.

    Parameters
    ----------
    campaign, name
        Of the workflow.
    ordinal
        Which one of that name it is in this process, from 0.
    """
    _, size = rank()
    if size is None or size < 2 or job() is None:
        return None
    return str(uuid.uuid5(_NAMESPACE, f"{campaign} {name} {ordinal}"))
