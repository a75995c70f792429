"""What this process runs on and with, as far as that is free to tell.

Flows in: this process. Flows out: a few JSON-able facts, one by one or together. They are recorded with every
workflow (capture) and begin the fuller description of a process (telemetry). Nothing is imported, started or
asked of a device to find them out.
"""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

# Whose versions are worth a line, where the program has loaded them.
FRAMEWORKS = (
    "torch",
    "dask",
    "distributed",
    "numpy",
    "pandas",
    "transformers",
    "lightning",
    "pytorch_lightning",
)


def loaded(name: str) -> ModuleType | None:
    """Give a module that the program has loaded to its end, None where it has not.

    One that another thread is still importing lacks parts, and one that waits to be loaded lazily would be
    loaded by a look at it (its class then reads attributes in a way of its own): neither counts.
    """
    module = sys.modules.get(name)
    if module is None or type(module).__getattribute__ is not ModuleType.__getattribute__:
        return None
    return None if getattr(getattr(module, "__spec__", None), "_initializing", False) else module


def versions() -> dict[str, str]:
    """Give the versions of the frameworks that are loaded."""
    return {
        name: str(version)
        for name in FRAMEWORKS
        if (version := getattr(loaded(name), "__version__", None)) is not None
    }


def cpus_usable() -> int | None:
    """Count the logical cores that the process may run on, by the affinity of its main thread."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(os.getpid()))
    return os.cpu_count()


FACTS: Mapping[str, Callable[[], Any]] = {
    "system": platform.system,
    "release": platform.release,
    "machine": platform.machine,
    "cpu_count": os.cpu_count,
    "cpus_usable": cpus_usable,
    "python": platform.python_version,
    "versions": versions,
}
"""What tells each fact, by its name."""


def machine_info() -> dict[str, Any]:
    """Tell all facts: what a workflow says of the machine and the versions that are loaded."""
    return {name: tell() for name, tell in FACTS.items()}
