"""What a launcher tells a process: its rank, and the ids that it shares with the other ranks of its job.

Flows in: the environment variables that torchrun, SLURM or MPI set. Flows out: rank and world size, the job
with its restarts, and ids that every rank of a job derives by itself and that are equal in all of them.

Three things are kept apart: the ranks of one job, which run at the same time; the attempts of one job, which
its launcher starts again after a failure; and different jobs, even if their variables are the same.
"""

from __future__ import annotations

import os
import re
import uuid
from pathlib import Path
from typing import NamedTuple

from flowprov.environment import mpi
from flowprov.environment.process_table import process_fields

# Any fixed namespace will do, if every rank of every version uses the same.
_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "https://flowprov/launchers")
# Set for the children of a rank: they inherit its launcher's variables, but are no ranks themselves.
ENV_RANK_OF = "FLOWPROV_RANK_OF"
# Numbers from here on are no steps that srun started: an interactive shell, a batch script, a container.
_FIRST_SPECIAL_STEP = 0xFFFFFFF0
_LOCAL_RANK = {
    "torchrun": "LOCAL_RANK",
    "slurm": "SLURM_LOCALID",
    "openmpi": "OMPI_COMM_WORLD_LOCAL_RANK",
    "mpich": "MPI_LOCALRANKID",
}
_JOB_NAME = {"torchrun": "TORCHELASTIC_RUN_ID", "slurm": "SLURM_JOB_ID", "openmpi": "PMIX_NAMESPACE"}
_DIGITS = re.compile(r"[0-9]{1,18}")


class Job(NamedTuple):
    """The job as a rank of which a process was launched.

    Attributes
    ----------
    job_id
        Its id, the same in all ranks and after every restart; None if no variable is unique to the job.
    restart
        How often SLURM put it into the queue again.
    agent
        Torchrun's agent that launched this process, one on each node; None without torchrun.
    agent_restart
        How often that agent restarted its processes. The agents of a job do not always agree on it.
    """

    job_id: str | None
    restart: int = 0
    agent: str | None = None
    agent_restart: int = 0


def rank_and_world_size() -> tuple[int | None, int | None]:
    """Return rank and world size of this process; None for both if it was not launched as one of several."""
    for rank_name, size_name in (
        ("RANK", "WORLD_SIZE"),
        ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS" if "SLURM_STEP_NUM_TASKS" in os.environ else "SLURM_NTASKS"),
        ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
        ("PMI_RANK", "PMI_SIZE"),
    ):
        rank, size = _number_in(rank_name), _number_in(size_name)
        if rank is not None and size is not None:
            if rank_name == "SLURM_PROCID" and _is_alone_in_slurm():
                continue
            return rank, size
    return None, None


def launcher() -> str | None:
    """Return what launched this rank: ``torchrun``, ``slurm``, ``openmpi`` or ``mpich``; else None."""
    if rank_and_world_size()[0] is None or is_helper():
        return None
    if "RANK" in os.environ and "WORLD_SIZE" in os.environ:
        return "torchrun" if "TORCHELASTIC_RUN_ID" in os.environ else None
    if _slurm_step() is not None:
        return "slurm"
    return mpi.launcher()


def local_rank() -> int | None:
    """Return the rank among those of this node; None if the launcher does not tell."""
    name = launcher()
    return None if name is None else _number_in(_LOCAL_RANK[name])


def job_name() -> str | None:
    """Return the name that the launcher itself gave to the job; None if it gave none."""
    name = launcher()
    return os.environ.get(_JOB_NAME.get(name or "", "")) or None


def is_without_job() -> bool:
    """Whether MPI launched this process as a rank, on several nodes, with nothing that all ranks share."""
    job = current_job()
    return job is not None and job.job_id is None and launcher() in ("mpich", "openmpi")


def certain_world_size() -> int | None:
    """Return the world size, if it is certain that so many ranks were launched; else None.

    The number of tasks of an allocation of SLURM is certain only in a step of so many tasks. A first task
    that does not know the size of its step may have been started by hand.
    """
    rank, size = rank_and_world_size()
    by_slurm = "RANK" not in os.environ and "SLURM_PROCID" in os.environ
    if by_slurm and rank == 0 and "SLURM_STEP_NUM_TASKS" not in os.environ:
        return None
    return size


def current_job() -> Job | None:
    """Return the job as a rank of which this process was launched; None for any other process.

    A process that SLURM did not launch, but put into the queue again together with the script around it, has
    a job without an id.
    """
    if is_helper():
        return None
    restart = _number("SLURM_RESTART_COUNT")
    rank, _ = rank_and_world_size()
    if rank is None:
        return Job(None, restart) if restart else None
    run_id = os.environ.get("TORCHELASTIC_RUN_ID")
    if run_id is None:
        step = _slurm_step()
        name = None if "RANK" in os.environ else step or mpi.job_name()
        return Job(_uuid(name) if name else None, restart)
    name = _torchrun_job(run_id)
    return Job(
        _uuid(name) if name else None,
        restart,
        _uuid(_torchrun_agent() or run_id),
        _number("TORCHELASTIC_RESTART_COUNT"),
    )


def is_helper() -> bool:
    """Whether this process is a child of a rank that inherited its variables, and no rank itself."""
    variables = rank_variables()
    if variables is None:
        return False
    forked_from = _VARIABLES_AT_IMPORT if os.getpid() != _PROCESS else None
    return variables in (forked_from, os.environ.get(ENV_RANK_OF))


def rank_variables() -> str | None:
    """Return the launcher's variables that are this process's own, as one text; None without a launcher."""
    rank, _ = rank_and_world_size()
    if rank is None:
        return None
    names = (
        "TORCHELASTIC_RUN_ID",
        "TORCHELASTIC_RESTART_COUNT",
        "MASTER_PORT",
        "SLURM_JOB_ID",
        "SLURM_STEP_ID",
        "PMIX_NAMESPACE",
    )
    return " ".join([str(rank), *(os.environ.get(name, "-") for name in names)])


def campaign_id() -> str | None:
    """Return the id of the campaign that all ranks of this job share, None for a process on its own."""
    job = current_job()
    return None if job is None or job.job_id is None else _uuid(job.job_id)


def workflow_id(campaign: str, name: str, ordinal: int, run: int = 0) -> str | None:
    """Return the id of a workflow that every rank opens, None for a process on its own.

    Parameters
    ----------
    campaign
        The id of the workflow's campaign.
    name
        The name of the workflow.
    ordinal
        How many workflows of that name this process opened before.
    run
        How many runs of the same program there were in the job before.
    """
    job = current_job()
    if job is None or job.job_id is None:
        return None
    return _uuid(f"{job.job_id} {run} {campaign} {name} {ordinal}")


def _torchrun_job(run_id: str) -> str | None:
    """Return a name that is unique to a job of torchrun, or None.

    A job without a name has a random id. Where the user gave the name, a second job may have it too, and even
    the same port. The agent tells them apart if there is one agent only; over several nodes, the address
    does, which is a new one for each job unless the user has fixed it as well.
    """
    if _is_random(run_id):
        return f"torchrun {run_id}"
    step = _slurm_step()
    if os.environ.get("GROUP_WORLD_SIZE") == "1" and step is None:
        agent = _torchrun_agent()
        if agent is not None:
            return f"torchrun {run_id} {agent}"
    if run_id == "none" and step is None:
        return None  # a static rendezvous of several nodes
    where = step or f"{os.environ.get('MASTER_ADDR', '')}:{os.environ.get('MASTER_PORT', '')}"
    return f"torchrun {run_id} {where}"


def _torchrun_agent() -> str | None:
    """Return what names the agent that launched this process: the folder that it made for its files."""
    path = os.environ.get("TORCHELASTIC_ERROR_FILE")
    if path:
        # <folder>/attempt_<number>/<local rank>/error.json
        return f"{os.uname().nodename} {Path(path).parent.parent.parent}"
    start = process_fields(os.getppid())
    return f"{os.uname().nodename} {os.getppid()} {start[19]}" if start else None


def _slurm_step() -> str | None:
    """Return the name of the step in which srun launched this process; None if srun did not."""
    job, step = os.environ.get("SLURM_JOB_ID"), _number_in("SLURM_STEP_ID")
    if not job or step is None or step >= _FIRST_SPECIAL_STEP or _is_in_terminal():
        return None
    return f"slurm {os.environ.get('SLURM_CLUSTER_NAME', '')} {job} {step}"


def _is_alone_in_slurm() -> bool:
    """Whether this process runs in a job of SLURM, and srun did not launch it as one of several tasks.

    A batch script and an interactive shell have the variables of a first task of as many tasks as the
    allocation has room for, and so has every program that is started there.
    """
    return os.environ.get("SLURM_PROCID") == "0" and "SLURM_JOB_ID" in os.environ and _slurm_step() is None


def _is_in_terminal() -> bool:
    """Whether this process was started by hand, in a shell that srun launched with a terminal."""
    task = _number_in("SLURM_TASK_PID")
    if task is None or task == os.getpid():
        return False
    fields = process_fields(task)
    return bool(fields) and fields[4] != "0"


def _is_random(run_id: str) -> bool:
    try:
        uuid.UUID(run_id)
    except ValueError:
        return False
    return True


def _number(name: str) -> int:
    return _number_in(name) or 0


def _number_in(name: str) -> int | None:
    """Return the number that a variable holds; None if it holds none that a launcher could have written."""
    text = os.environ.get(name, "")
    return int(text) if _DIGITS.fullmatch(text) else None


def _uuid(name: str) -> str:
    """Return the id that every rank derives from a name; variables may hold what UTF-8 cannot."""
    return str(uuid.uuid5(_NAMESPACE, name.encode("utf-8", "backslashreplace").decode()))


_PROCESS = os.getpid()
_VARIABLES_AT_IMPORT = rank_variables()
