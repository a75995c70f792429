"""Jobs of ``mpirun``, of Open MPI and of MPICH.

Flows in: the variables that they set, and the processes above this one. Flows out: which of the two it is,
and a name that all ranks of a job derive by themselves, and no other job has.

MPICH tells its ranks nothing of the job. On one host they share the process that started them; on several
hosts they share nothing. Open MPI names the job by its host and a process id, which comes again in time, so
on one host that process is asked as well.
"""

from __future__ import annotations

import os
from pathlib import Path

from flowprov.environment.process_table import process_fields, process_name

_STARTERS = ("hydra_pmi_proxy", "mpiexec", "mpirun", "mpiexec.hydra", "prterun", "prted", "orterun", "orted")
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_MAX_LEVELS = 10


def launcher() -> str | None:
    """Return ``openmpi`` or ``mpich``; None if neither launched this process."""
    if "OMPI_COMM_WORLD_RANK" in os.environ:
        return "openmpi"
    return "mpich" if "PMI_RANK" in os.environ else None


def job_name() -> str | None:
    """Return a name that is unique to the job; None if nothing is."""
    name = launcher()
    if name == "openmpi":
        namespace = os.environ.get("PMIX_NAMESPACE")
        if _is_on_one_host("OMPI_COMM_WORLD_LOCAL_SIZE", "OMPI_COMM_WORLD_SIZE"):
            return _name_by_starter(f"openmpi {namespace}")
        return f"openmpi {namespace}" if namespace else None
    if name == "mpich" and _is_on_one_host("MPI_LOCALNRANKS", "PMI_SIZE"):
        return _name_by_starter("mpich")
    campaign = os.environ.get("FLOWPROV_CAMPAIGN_ID")  # that the user gave to all ranks
    return f"{name} {campaign}" if name and campaign else None


def _is_on_one_host(local: str, all_ranks: str) -> bool:
    size = os.environ.get(all_ranks)
    return size is not None and os.environ.get(local) == size


def _name_by_starter(prefix: str) -> str | None:
    """Return a name made of the process that started the ranks: its id, its start, and this boot."""
    starter = _starter()
    fields = process_fields(starter)
    if not fields:
        return None
    try:
        boot = _BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        boot = ""
    return f"{prefix} {os.uname().nodename} {boot} {starter} {fields[19]}"


def _starter() -> int:
    """Return the process that started the ranks: the nearest of MPI's above this one, else the parent."""
    parent = pid = os.getppid()
    for _ in range(_MAX_LEVELS):
        if process_name(pid) in _STARTERS:
            return pid
        fields = process_fields(pid)
        if len(fields) < 2 or (pid := int(fields[1])) <= 1:
            break
    return parent
