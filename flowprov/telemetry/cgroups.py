"""Find the limits that a container or batch system sets for this process: control groups, v1 and v2.

Flows in: the kernel's files. Flows out: the most cores and memory that the process may use, and the kind of
container in which it seems to run.

A process is in one group of every hierarchy (``/proc/self/cgroup``). The limits of a group and of all groups
above it hold, so the smallest limit on the way up counts. ``/proc/self/mountinfo`` says where a hierarchy is
mounted and which of its groups is the topmost that is visible there (cgroups(7), proc_pid_mountinfo(5)).
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
_MAX_DEPTH = 64  # nested groups; kernels and batch systems create less than ten
# For "no limit", cgroup v1 reports the greatest number of whole pages below 2**63.
_NO_MEMORY_LIMIT_FROM = 1 << 60
_FILE_OF_KIND = {"docker": ".dockerenv", "podman": "run/.containerenv"}
# Only their presence is checked; their values are private.
_VARIABLE_OF_KIND = {"kubernetes": "KUBERNETES_SERVICE_HOST", "apptainer": "SINGULARITY_CONTAINER"}


class _Mount(NamedTuple):
    """A mount of a hierarchy of groups."""

    controllers: frozenset[str]
    """The controllers of a v1 hierarchy; empty for v2."""
    group: str
    """The group of the hierarchy that is visible at the mount point."""
    mount_point: str


def container_kinds(root: Path = _ROOT) -> list[str] | None:
    """Return the kinds of containers in which the process seems to run; None if in none.

    Parameters
    ----------
    root
        The root of the file system; tests use another one.
    """
    kinds = [kind for kind, name in _FILE_OF_KIND.items() if (root / name).exists()]
    kinds += [kind for kind, variable in _VARIABLE_OF_KIND.items() if variable in os.environ]
    return kinds or None


@lru_cache(maxsize=1)
def cpu_limit_cores(root: Path = _ROOT) -> float | None:
    """Return the CPU time that the process may use, in cores; None if there is no limit."""
    return _smallest_limit(_group_folders(root, "cpu"), _cpu_limit)


@lru_cache(maxsize=1)
def memory_limit_bytes(root: Path = _ROOT) -> int | None:
    """Return the memory that the process may use; None if there is no limit."""
    return _smallest_limit(_group_folders(root, "memory"), _memory_limit)


def _smallest_limit(groups: Iterator[Path], limit: Callable[[Path], Number | None]) -> Number | None:
    return min((value for group in groups if (value := limit(group)) is not None), default=None)


def _cpu_limit(group: Path) -> float | None:
    quota, _, period = (read_text(group / "cpu.max") or "").partition(" ")
    cores = _cores(quota, period or "100000")
    if cores is not None:
        return cores
    return _cores(read_text(group / "cpu.cfs_quota_us"), read_text(group / "cpu.cfs_period_us"))


def _cores(quota: str | None, period: str | None) -> float | None:
    microseconds, period_microseconds = _parse_number(quota), _parse_number(period)
    return microseconds / period_microseconds if microseconds and period_microseconds else None


def _memory_limit(group: Path) -> int | None:
    for name in ("memory.max", "memory.limit_in_bytes"):
        limit = _parse_number(read_text(group / name))
        if limit is not None and limit < _NO_MEMORY_LIMIT_FROM:
            return limit
    return None


def _parse_number(text: str | None) -> int | None:
    """Return the number in a text; None for "max", -1 and anything else."""
    stripped = (text or "").strip()
    return int(stripped) if re.fullmatch("[0-9]{1,20}", stripped) else None


def _group_folders(root: Path, controller: str) -> Iterator[Path]:
    """Yield the folders of the groups that this process is in, from its own up to the topmost."""
    mounts = list(_mounts(read_text(root / "proc/self/mountinfo") or ""))
    for line in (read_text(root / "proc/self/cgroup") or "").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, own = rest.partition(":")
        if controllers and controller not in controllers.split(","):
            continue
        matching = [mount for mount in mounts if _has_controller(mount, controller if controllers else None)]
        # The same hierarchy may be mounted twice, for different branches of it.
        for mount in sorted(matching, key=lambda mount: _relative_parts(mount.group, own) is None)[:1]:
            folder = root / mount.mount_point.lstrip("/")
            parts = (_relative_parts(mount.group, own) or ())[:_MAX_DEPTH]
            yield from (folder.joinpath(*parts[:depth]) for depth in range(len(parts), -1, -1))


def _has_controller(mount: _Mount, controller: str | None) -> bool:
    return controller in mount.controllers if controller else not mount.controllers


def _relative_parts(top: str, own: str) -> tuple[str, ...] | None:
    """Return the path from the topmost visible group to our own, as parts; None if ours is not below it.

    That is so if the process was moved out of its namespace ("/../other") or sees only another branch. The
    topmost visible group is then the nearest to ours that is known.
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
        group, mount_point = (_unescape(field) for field in fields[3:5])
        if ".." not in mount_point.split("/"):
            options = frozenset(more[1].split(",")) if system == "cgroup" else frozenset[str]()
            yield _Mount(options, group, mount_point)


def _unescape(field: str) -> str:
    """Return a path with its spaces, tabs, newlines and backslashes, which the kernel escapes."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), field)


def describe_container(root: Path = _ROOT) -> dict[str, Any] | None:
    """Return the kinds of container and the limits of this process; None if nothing is known."""
    facts = {
        "kinds": container_kinds(root),
        "cpu_limit_cores": cpu_limit_cores(root),
        "memory_limit_bytes": memory_limit_bytes(root),
    }
    return {name: value for name, value in facts.items() if value is not None} or None
