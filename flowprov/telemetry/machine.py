"""What a process runs on and with: the values of a `Machine` record.

Flows in: the kernel's files, this process, and of GPUs what a caller knows. Flows out: JSON-able facts. Each
may be missing without the others. What cannot change is found once; the rest is read anew each time, so that
two descriptions tell what changed between them.

No user, home folder, command line or host name is in it, and of the environment only what :data:`VARIABLES`
lists.
"""

from __future__ import annotations

import os
import platform
import re
import sys
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

from flowprov.environment import host
from flowprov.telemetry import cgroups, torch_state
from flowprov.telemetry.probe import read_each
from flowprov.telemetry.system_files import read_text
from flowprov.values import Limits, Summarizer

VARIABLES: Mapping[str, Mapping[str, str]] = {
    "slurm": {
        "job_id": "SLURM_JOB_ID",
        "step_id": "SLURM_STEP_ID",
        "node_name": "SLURMD_NODENAME",
        "node_list": "SLURM_JOB_NODELIST",
        "tasks": "SLURM_NTASKS",
        "procid": "SLURM_PROCID",
        "partition": "SLURM_JOB_PARTITION",
    },
    "environment": {
        "PYTHONHASHSEED": "PYTHONHASHSEED",
        "CUBLAS_WORKSPACE_CONFIG": "CUBLAS_WORKSPACE_CONFIG",
    },
}
"""The only environment variables whose values are recorded, by the part and the name that they have in it."""

_NUMBERS = ("SLURM_NTASKS", "SLURM_PROCID")
_ROOT = Path("/")
# How the kernels of different processors name them in /proc/cpuinfo: x86, MIPS, POWER, 32-bit ARM.
_MODEL = re.compile(r"^(?:model name|cpu model|cpu|Hardware)[ \t]*:[ \t]*(\S.*)$", re.MULTILINE)
# 64-bit ARM has numbers only.
_ARM = re.compile(r"^CPU (implementer|part)[ \t]*:[ \t]*(\S+)", re.MULTILINE)
_CORE = re.compile(r"^(physical id|core id)[ \t]*:[ \t]*(\d+)", re.MULTILINE)

_summariser = Summarizer(Limits(max_string=500, max_items=64))


def describe_machine(
    gpus: Sequence[Mapping[str, Any]] = (), drivers: Mapping[str, str] = {}
) -> dict[str, Any]:
    """Describe what this process runs on and with, now.

    Parameters
    ----------
    gpus
        What is known of each GPU ("model", "memory_bytes").
    drivers
        Versions of drivers by their names.

    Returns
    -------
    dict
        JSON types; integers beyond signed 64 bits (a seed may be one) and strings that were cut are marks of
        `flowprov.values`. What cannot be found out is left out: `system, release, machine, cpu_model,
        cpu_count, cpu_count_physical, cpus_usable` (by affinity), `memory_bytes` (of the machine),
        `container` (`kinds, cpu_limit_cores, memory_limit_bytes`), `python, python_implementation, versions`,
        `torch` (see `torch_state`), `environment, slurm` (see :data:`VARIABLES`), `gpus, drivers`.
    """
    values = read_each(
        "machine",
        {
            **host.FACTS,
            "cpu_model": cpu_model,
            "cpu_count_physical": cpu_count_physical,
            "memory_bytes": memory_bytes,
            "container": cgroups.describe_container,
            "python_implementation": platform.python_implementation,
            "torch": torch_state.describe_torch,
            "environment": lambda: _variables("environment"),
            "slurm": lambda: _variables("slurm"),
            "gpus": lambda: [dict(gpu) for gpu in gpus] or None,
            "drivers": lambda: dict(drivers) or None,
        },
    )
    # Bounds the size, and sees to it that everything can be encoded.
    return cast("dict[str, Any]", _summariser.summarize(values))


@lru_cache(maxsize=1)
def cpu_model(root: Path = _ROOT) -> str | None:
    """Name the processor.

    Parameters
    ----------
    root
        The root of the file system, for tests another.
    """
    if sys.platform != "linux":
        return platform.processor() or None  # on Linux this would start a process
    text = read_text(root / "proc/cpuinfo") or ""
    if found := _MODEL.search(text):
        return found[1].strip()
    numbers = dict(_ARM.findall(text))
    return " ".join(f"{name} {number}" for name, number in numbers.items()) or None


@lru_cache(maxsize=1)
def cpu_count_physical(root: Path = _ROOT) -> int | None:
    """Count the cores of the machine, those that share one by hyper-threading once."""
    # Each processor tells its socket first, then its core in it.
    cores: set[tuple[str, str]] = set()
    socket = "0"
    for name, number in _CORE.findall(read_text(root / "proc/cpuinfo") or ""):
        if name == "core id":
            cores.add((socket, number))
        else:
            socket = number
    if cores:
        return len(cores)
    siblings = (root / "sys/devices/system/cpu").glob("cpu[0-9]*/topology/thread_siblings_list")
    return len({text for path in siblings if (text := read_text(path))}) or None


@lru_cache(maxsize=1)
def memory_bytes(root: Path = _ROOT) -> int | None:
    """Give the memory of the machine in bytes, whatever part of it the process may use."""
    if found := re.search(
        r"^MemTotal:\s*([0-9]{1,15}) kB", read_text(root / "proc/meminfo") or "", re.MULTILINE
    ):
        return int(found[1]) * 1024
    if root != _ROOT:
        return None
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _variables(part: str) -> dict[str, str | int] | None:
    found: dict[str, str | int] = {}
    for name, variable in VARIABLES[part].items():
        text = os.environ.get(variable)
        if text:
            number = variable in _NUMBERS and re.fullmatch("[0-9]{1,9}", text)
            found[name] = int(text) if number else text
    return found or None
