"""Describe what a process runs on, and its software: the values of a `Machine` record.

Flows in: the kernel's files, this process, and what the caller knows of GPUs. Flows out: facts that JSON can
hold. Each may be missing without the others. Facts that cannot change are read once, the others anew each
time, so that two descriptions show what changed between them.

The description holds no user, home folder, command line or host name, and of the environment only the
variables in :data:`VARIABLES`.
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
"""The only environment variables whose values are recorded, by part and by name in that part."""

_NUMBERS = ("SLURM_NTASKS", "SLURM_PROCID")
_ROOT = Path("/")
# The name of the processor in /proc/cpuinfo, as the kernels write it for x86, MIPS, POWER and 32-bit ARM.
_MODEL_LINE = re.compile(r"^(?:model name|cpu model|cpu|Hardware)[ \t]*:[ \t]*(\S.*)$", re.MULTILINE)
# For 64-bit ARM there are only numbers.
_ARM_LINE = re.compile(r"^CPU (implementer|part)[ \t]*:[ \t]*(\S+)", re.MULTILINE)
_CORE_LINE = re.compile(r"^(physical id|core id)[ \t]*:[ \t]*(\d+)", re.MULTILINE)

_summarizer = Summarizer(Limits(max_string=500, max_items=64))


def describe_machine(
    gpus: Sequence[Mapping[str, Any]] = (), drivers: Mapping[str, str] = {}
) -> dict[str, Any]:
    """Return a description of what this process runs on, and of its software, as of now.

    Parameters
    ----------
    gpus
        What is known of each GPU ("model", "memory_bytes").
    drivers
        Versions of drivers, by name.

    Returns
    -------
    dict
        JSON types only. Integers beyond signed 64 bits (a seed may be one) and strings that were cut are
        markers of `flowprov.values`. The keys, each left out if it is unknown: `system, release, machine,
        cpu_model, cpu_count, cpu_count_physical, cpus_usable` (by affinity), `memory_bytes` (of the machine),
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
    # The summarizer limits the size, and makes sure that every value can be encoded.
    return cast("dict[str, Any]", _summarizer.summarize(values))


@lru_cache(maxsize=1)
def cpu_model(root: Path = _ROOT) -> str | None:
    """Return the name of the processor.

    Parameters
    ----------
    root
        The root of the file system; tests use another one.
    """
    if sys.platform != "linux":
        return platform.processor() or None  # on Linux this would start a process
    text = read_text(root / "proc/cpuinfo") or ""
    if match := _MODEL_LINE.search(text):
        return match[1].strip()
    numbers = dict(_ARM_LINE.findall(text))
    return " ".join(f"{name} {number}" for name, number in numbers.items()) or None


@lru_cache(maxsize=1)
def cpu_count_physical(root: Path = _ROOT) -> int | None:
    """Return the number of the machine's cores; the hyper-threads of a core count as one."""
    # For each processor, cpuinfo lists the socket first and then the core in it.
    cores: set[tuple[str, str]] = set()
    socket = "0"
    for name, number in _CORE_LINE.findall(read_text(root / "proc/cpuinfo") or ""):
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
    """Return the memory of the machine in bytes; the process may be allowed less."""
    if match := re.search(
        r"^MemTotal:\s*([0-9]{1,15}) kB", read_text(root / "proc/meminfo") or "", re.MULTILINE
    ):
        return int(match[1]) * 1024
    if root != _ROOT:
        return None
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _variables(part: str) -> dict[str, str | int] | None:
    values: dict[str, str | int] = {}
    for name, variable in VARIABLES[part].items():
        text = os.environ.get(variable)
        if text:
            is_number = variable in _NUMBERS and re.fullmatch("[0-9]{1,9}", text)
            values[name] = int(text) if is_number else text
    return values or None
