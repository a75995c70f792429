"""The bounds that a container or batch system sets to a process: its control groups, v1 and v2.

Flows in: the kernel's files. Flows out: the cores and the memory that the process may use at most, and in
what kind of container it seems to be.

A process stands in one group of every hierarchy (``/proc/self/cgroup``), and a group is bound by all above
it: the smallest limit on the way up counts. Where a hierarchy is mounted, and which of its groups is the
topmost that can be seen from here, stands in ``/proc/self/mountinfo`` (cgroups(7), proc_pid_mountinfo(5)).
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from flowprov.telemetry.system_files import read_text

Number = TypeVar("Number", int, float)

_ROOT = Path("/")
_DEEPEST = 64  # groups inside one another: kernels and batch systems make less than ten
# cgroup v1 says "no limit" with the greatest number of whole pages below 2**63.
_NO_MEMORY_LIMIT_FROM = 1 << 60
_MARK_FILES = {"docker": ".dockerenv", "podman": "run/.containerenv"}
# Only whether they are set is looked at: what they hold is nobody's business.
_MARK_VARIABLES = {"kubernetes": "KUBERNETES_SERVICE_HOST", "apptainer": "SINGULARITY_CONTAINER"}


class _Mount(NamedTuple):
    """A place where a hierarchy can be seen."""

    controllers: frozenset[str]
    """Of v1; empty for v2."""
    top: str
    """Which group of the hierarchy stands at the place."""
    place: str


def kinds(root: Path = _ROOT) -> list[str] | None:
    """Name the kinds of containers that the process seems to be in, None where it seems to be in none.

    Parameters
    ----------
    root
        The root of the file system, for tests another.
    """
    found = [kind for kind, name in _MARK_FILES.items() if (root / name).exists()]
    found += [kind for kind, variable in _MARK_VARIABLES.items() if variable in os.environ]
    return found or None


@lru_cache(maxsize=1)
def cpu_limit_cores(root: Path = _ROOT) -> float | None:
    """Give the CPU time that the process may use, in cores; None where nothing bounds it."""
    return _smallest(_groups(root, "cpu"), _cpu_limit)


@lru_cache(maxsize=1)
def memory_limit_bytes(root: Path = _ROOT) -> int | None:
    """Give the memory that the process may use; None where nothing bounds it."""
    return _smallest(_groups(root, "memory"), _memory_limit)


def _smallest(groups: Iterator[Path], limit: Callable[[Path], Number | None]) -> Number | None:
    return min((found for group in groups if (found := limit(group)) is not None), default=None)


def _cpu_limit(group: Path) -> float | None:
    quota, _, period = (read_text(group / "cpu.max") or "").partition(" ")
    cores = _cores(quota, period or "100000")
    if cores is not None:
        return cores
    return _cores(read_text(group / "cpu.cfs_quota_us"), read_text(group / "cpu.cfs_period_us"))


def _cores(quota: str | None, period: str | None) -> float | None:
    allowed, of = _number(quota), _number(period)
    return allowed / of if allowed and of else None


def _memory_limit(group: Path) -> int | None:
    for name in ("memory.max", "memory.limit_in_bytes"):
        limit = _number(read_text(group / name))
        if limit is not None and limit < _NO_MEMORY_LIMIT_FROM:
            return limit
    return None


def _number(text: str | None) -> int | None:
    """Read a number; "max", -1 and nonsense are none."""
    stripped = (text or "").strip()
    return int(stripped) if re.fullmatch("[0-9]{1,20}", stripped) else None


def _groups(root: Path, controller: str) -> Iterator[Path]:
    """Give the folders of the groups that this process stands in, from its own up to the topmost."""
    mounts = list(_mounts(read_text(root / "proc/self/mountinfo") or ""))
    for line in (read_text(root / "proc/self/cgroup") or "").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, own = rest.partition(":")
        if controllers and controller not in controllers.split(","):
            continue
        seen = [mount for mount in mounts if _carries(mount, controller if controllers else None)]
        # The same hierarchy may be mounted again, for another branch of it.
        for mount in sorted(seen, key=lambda mount: _below(mount.top, own) is None)[:1]:
            place = root / mount.place.lstrip("/")
            below = (_below(mount.top, own) or ())[:_DEEPEST]
            yield from (place.joinpath(*below[:depth]) for depth in range(len(below), -1, -1))


def _carries(mount: _Mount, controller: str | None) -> bool:
    return controller in mount.controllers if controller else not mount.controllers


def _below(top: str, own: str) -> tuple[str, ...] | None:
    """Give the way from the topmost group that can be seen to our own; None where that is not below it.

    It is not where the process was moved out of its namespace ("/../other"), or sees another branch only: the
    topmost group that can be seen is then the nearest to ours that is known.
    """
    upper, lower = _parts(top), _parts(own)
    if ".." in upper + lower or lower[: len(upper)] != upper:
        return None
    return lower[len(upper) :]


def _parts(path: str) -> tuple[str, ...]:
    return tuple(part for part in path.split("/") if part)


def _mounts(mountinfo: str) -> Iterator[_Mount]:
    for line in mountinfo.splitlines():
        mounted, _, kind = line.partition(" - ")
        fields, (system, *more) = mounted.split(" "), kind.split(" ")
        if system not in ("cgroup", "cgroup2") or len(fields) < 5 or len(more) < 2:
            continue
        top, place = (_unescaped(field) for field in fields[3:5])
        if ".." not in place.split("/"):
            options = frozenset(more[1].split(",")) if system == "cgroup" else frozenset[str]()
            yield _Mount(options, top, place)


def _unescaped(field: str) -> str:
    """Undo what the kernel does to spaces, tabs, newlines and backslashes in a path."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), field)


def describe_container(root: Path = _ROOT) -> dict[str, Any] | None:
    """Tell all that is known of the container, None where that is nothing."""
    facts = {
        "kinds": kinds(root),
        "cpu_limit_cores": cpu_limit_cores(root),
        "memory_limit_bytes": memory_limit_bytes(root),
    }
    return {name: value for name, value in facts.items() if value is not None} or None
