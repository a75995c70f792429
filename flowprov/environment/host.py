"""The system, the cores and the versions with which this process runs, as far as they cost nothing to read.

Flows in: this process. Flows out: a few facts as JSON values, one by one or together. Capture records them
with every workflow, and telemetry puts them first in its description of the machine. To read them, nothing is
imported or started, and no device is used.
"""

from __future__ import annotations

import contextlib
import os
import platform
import sys
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

# Their versions are recorded, if the program has loaded them.
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
    """Return a module that the program has completely loaded, None if it has not.

    A module that another thread is still importing is incomplete. A lazy module would be loaded when its
    attributes are read (its class has a `__getattribute__` of its own). For both, None is returned.
    """
    module = sys.modules.get(name)
    if module is None or type(module).__getattribute__ is not ModuleType.__getattribute__:
        return None
    return None if getattr(getattr(module, "__spec__", None), "_initializing", False) else module


def versions() -> dict[str, str]:
    """Return the versions of the frameworks that are loaded."""
    return {
        name: str(version)
        for name in FRAMEWORKS
        if (version := getattr(loaded(name), "__version__", None)) is not None
    }


def cpus_usable() -> int | None:
    """Return the number of logical cores on which the process may run, by the affinity of its main thread."""
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
"""The function that reads each fact, by the name of the fact."""


def machine_info() -> dict[str, Any]:
    """Return all facts, as a workflow records them; without those that a sandbox does not let it read."""
    facts = {}
    for name, read in FACTS.items():
        with contextlib.suppress(OSError, ValueError):  # ValueError: a version that `platform` cannot read
            facts[name] = read()
    return facts
