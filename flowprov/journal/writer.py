"""What the journal asks of a writer, and which writer suits a file system.

Flows in: the journal's settings and its folder. Flows out: the name of the writer to use.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

# Local file systems whose mapped pages survive the death of the process and whose reserved blocks are real.
_MAPPED_FILE_SYSTEMS = frozenset({"ext4", "xfs", "tmpfs"})


class JournalFull(Exception):  # noqa: N818 - a condition that the journal handles, no error that a person sees
    """No more can be appended; ``reason`` is the word under which the loss is counted."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Writer(Protocol):
    """One way to append lines to a file that this process alone writes."""

    name: str

    @property
    def fast_append(self) -> Callable[[bytes], object]:
        """Give the shortest way to append; where it raises ValueError, :meth:`append` is the way."""

    def append(self, line: bytes) -> None:
        """Append a line; once this returns, the line survives the death of the process."""

    def prepare(self) -> None:
        """Do in the background what the next appends would otherwise have to wait for."""

    def sync(self) -> None:
        """Flush to the disk, so that what was appended survives the death of the machine."""

    def close(self) -> None:
        """Cut the padding at the end and close the file."""

    def abandon(self) -> None:
        """In a forked child: let go of the parent's file and leave it as it is."""


def choose_writer(setting: str, folder: Path) -> str:
    """Say which writer to use in ``folder``: ``mapped`` or ``write``."""
    if setting != "auto":
        return setting
    return "mapped" if file_system(folder) in _MAPPED_FILE_SYSTEMS else "write"


def file_system(folder: Path) -> str:
    """Name the file system of ``folder``, "" where that cannot be told (no ``/proc``).

    Source of the layout: ``proc_pid_mountinfo(5)``.
    """
    try:
        device = folder.stat().st_dev
        wanted = f"{os.major(device)}:{os.minor(device)}"
        mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    for line in mounts.splitlines():
        left, separator, right = line.partition(" - ")
        if separator and left.split()[2] == wanted:
            return right.split()[0]
    return ""
