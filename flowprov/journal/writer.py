"""The protocol of a writer, and the choice of a writer.

Flows in: the journal's settings and its folder. Flows out: the name of the writer to use.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, Protocol

from flowprov.journal.interruptions import pass_on
from flowprov.journal.write_failures import FileGrown, JournalFull

# File systems of local disks and of memory. What hangs there, hangs for all of the machine.
_LOCAL = frozenset(
    {
        "bcachefs",
        "btrfs",
        "exfat",
        "ext2",
        "ext3",
        "ext4",
        "f2fs",
        "jfs",
        "msdos",
        "nilfs2",
        "ntfs3",
        "overlay",
    }
    | {"ramfs", "reiserfs", "tmpfs", "vfat", "xfs", "zfs"}
)


class SizeLimits(NamedTuple):
    """How large a file may become.

    Attributes
    ----------
    max_bytes
        The size at which recording stops; None for no limit.
    roll_bytes
        The size from which the journal goes on in a next file; None for no limit.
    """

    max_bytes: int | None = None
    roll_bytes: int | None = None

    def lowest(self) -> int:
        """Return the lower one of the two; more than any file has if there is none."""
        return min(limit for limit in (self.max_bytes, self.roll_bytes, sys.maxsize) if limit is not None)

    def reason(self, size: int) -> JournalFull | FileGrown:
        """Return what is raised instead of making a file that large."""
        if self.max_bytes is not None and size > self.max_bytes:
            return JournalFull("max_bytes")
        return FileGrown()


NO_LIMITS = SizeLimits()


class Writer(Protocol):
    """One way to append lines to a file that this process alone writes."""

    name: str
    limits: SizeLimits

    @property
    def fast_append(self) -> Callable[[bytes], object]:
        """Return the fastest function that appends; where it raises ValueError, call :meth:`append`."""

    def append(self, line: bytes) -> None:
        """Append a line; when this returns, the line survives the death of the process."""

    def end(self) -> int:
        """Return the offset behind the last line."""

    def read(self, length: int, offset: int) -> bytes:
        """Return bytes of the file."""

    def is_appending(self) -> bool:
        """Whether this thread is in the middle of an append, and holds a lock for it."""

    def is_cut(self) -> bool:
        """Whether somebody else has cut the file."""

    def prepare(self) -> None:
        """Do ahead, in the background, the work that later appends would wait for."""

    def sync(self) -> None:
        """Flush to the disk, so that appended lines survive the death of the machine."""

    def close(self) -> None:
        """Cut the padding at the end and close the file."""

    def abandon(self) -> None:
        """Close the parent's file in a forked child, and leave its content as it is."""


def choose_writer(setting: str) -> str:
    """Return the name of the writer to use: ``mapped`` or ``write``.

    Notes
    -----
    ``auto`` is ``write`` everywhere. Mapped memory costs 1.4 µs less per record, and no file system makes it
    safe: where root cuts the file, or the device fails, the next record kills the program by SIGBUS.
    """
    return "mapped" if setting == "mapped" else "write"


def may_hang(folder: Path) -> bool:
    """Whether a file system may wait for another machine or process: that of a network, or of FUSE."""
    name = file_system(folder)
    return bool(name) and name not in _LOCAL


def file_system(folder: Path) -> str:
    """Return the name of the file system of ``folder``; "" where it is unknown (no ``/proc``).

    Source of the layout: ``proc_pid_mountinfo(5)``.
    """
    try:
        device = folder.stat().st_dev
        device_number = f"{os.major(device)}:{os.minor(device)}"
        mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        pass_on(error)
        return ""
    for line in mounts.splitlines():
        left, separator, right = line.partition(" - ")
        if separator and left.split()[2] == device_number:
            return right.split()[0]
    return ""
