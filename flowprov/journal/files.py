"""Creating the file of a journal, with a fallback folder, and the reserved slot behind its header.

Flows in: the buffer folder of the settings. Flows out: a new file of this process, open and locked.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import NamedTuple

from flowprov import guard
from flowprov.journal.format import RESERVED_SLOT, journal_path, padding_line
from flowprov.journal.liveness import hold_lock


class JournalFile(NamedTuple):
    """A new journal file: its path and its descriptor (read and write, locked, not inherited by exec)."""

    path: Path
    descriptor: int


def create_journal_file(
    buffer: Path, campaign_id: str, hostname: str, journal_id: str, *, appending: bool
) -> JournalFile:
    """Create the file of a journal in ``buffer``, else in the temporary folder.

    Parameters
    ----------
    buffer
        The buffer folder; created if it is missing.
    campaign_id, hostname, journal_id
        The parts of the file's name.
    appending
        Open with ``O_APPEND``: the append writer needs it, and the mapped writer must not have it.

    Raises
    ------
    OSError
        If the file can be created in neither of the two folders.
    """
    try:
        return _create_in(buffer, campaign_id, hostname, journal_id, appending=appending)
    except OSError as error:
        fallback = fallback_folder()
        created = _create_in(fallback, campaign_id, hostname, journal_id, appending=appending)
        guard.warn_once(
            f"buffer {buffer}",
            "flowprov cannot write its buffer in %s (%s); this run is recorded in %s instead. "
            "Set journal.path to a folder that can be written.",
            buffer,
            error.strerror or error,
            fallback,
        )
        return created


def fallback_folder() -> Path:
    """Return the buffer folder of last resort; one per user, as users share the temporary folder."""
    return Path(tempfile.gettempdir()) / f"flowprov_buffer_{os.getuid()}"


def nearest_existing(folder: Path) -> Path:
    """Return the folder itself, or the nearest folder above it that exists."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder


def _create_in(
    buffer: Path, campaign_id: str, hostname: str, journal_id: str, *, appending: bool
) -> JournalFile:
    path = journal_path(buffer, campaign_id, hostname, os.getpid(), journal_id)
    path.parent.mkdir(parents=True, exist_ok=True)
    flags = os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC | (os.O_APPEND if appending else 0)
    descriptor = os.open(path, flags, 0o644)
    hold_lock(descriptor)  # until this process ends: a free lock tells readers that the writer is gone
    return JournalFile(path, descriptor)


class ReservedSlot:
    """The bytes behind the header of a journal, for the last heartbeat and the footer of a full journal.

    Parameters
    ----------
    path
        The journal.
    offset
        The end of its header, in bytes.
    """

    def __init__(self, path: Path, offset: int) -> None:
        self._path = path
        self._offset = offset

    def write(self, line: bytes) -> bool:
        """Write a line into the slot, over the line that is there; return whether that worked."""
        unused = RESERVED_SLOT - len(line)
        if unused < 1:
            return False
        try:
            descriptor = os.open(self._path, os.O_WRONLY | os.O_CLOEXEC)
            try:
                return os.pwrite(descriptor, line + padding_line(unused), self._offset) == RESERVED_SLOT
            finally:
                os.close(descriptor)
        except OSError as error:
            guard.logger.debug("flowprov could not write behind the header of %s: %s", self._path, error)
            return False
