"""Where a journal is created, and what is done when it cannot be created there.

Flows in: the buffer folder of the settings. Flows out: an open, locked, new file of this process.
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
        The buffer folder; made if missing.
    campaign_id, hostname, journal_id
        They name the file.
    appending
        Open with ``O_APPEND``, as the plain writer needs it and the mapped one must not have it.

    Raises
    ------
    OSError
        If no file can be created in either place.
    """
    try:
        return _create_in(buffer, campaign_id, hostname, journal_id, appending=appending)
    except OSError as error:
        fallback = fallback_folder()
        place = _create_in(fallback, campaign_id, hostname, journal_id, appending=appending)
        guard.warn_once(
            f"place {buffer}",
            "flowprov cannot write its buffer in %s (%s); this run is recorded in %s instead. "
            "Set journal.path to a folder that can be written.",
            buffer,
            error.strerror or error,
            fallback,
        )
        return place


def fallback_folder() -> Path:
    """Give the buffer folder of last resort; one per user, as the temporary folder is shared."""
    return Path(tempfile.gettempdir()) / f"flowprov_buffer_{os.getuid()}"


def nearest_existing(folder: Path) -> Path:
    """Give the folder, or the nearest one above it that exists."""
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
    hold_lock(descriptor)  # while this process lives: a free one tells readers that its writer is gone
    return JournalFile(path, descriptor)


class ReservedSlot:
    """The room of one journal.

    Parameters
    ----------
    path
        The journal.
    offset
        Where its header ends.
    """

    def __init__(self, path: Path, offset: int) -> None:
        self._path = path
        self._offset = offset

    def write(self, line: bytes) -> bool:
        """Put a line into the room, in place of what stands there; False if it could not be."""
        rest = RESERVED_SLOT - len(line)
        if rest < 1:
            return False
        try:
            descriptor = os.open(self._path, os.O_WRONLY | os.O_CLOEXEC)
            try:
                return os.pwrite(descriptor, line + padding_line(rest), self._offset) == RESERVED_SLOT
            finally:
                os.close(descriptor)
        except OSError as error:
            guard.logger.debug("flowprov could not write behind the header of %s: %s", self._path, error)
            return False
