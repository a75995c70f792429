"""Creating the file of a journal, with a fallback folder, and the reserved slot behind its header.

Flows in: the buffer folder of the settings. Flows out: a new file of this process, open and locked.

An exception from outside (a signal handler's, for instance) may arrive between any two instructions. So no
descriptor is an integer in a variable before its owner is there, functions of pathlib that swallow errors are
not used, and what was half created is created again.
"""

from __future__ import annotations

import contextlib
import fcntl
import io
import os
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

import msgspec

from flowprov import guard
from flowprov.journal.folders import (
    OTHERS_WRITE,
    PRIVATE,
    check_folders,
    create_folder,
    open_no_link,
    own_fallback_folder,
    set_mode,
)
from flowprov.journal.format import RESERVED_SLOT, journal_path, padding_line
from flowprov.journal.interruptions import pass_on
from flowprov.journal.liveness import hold_lock
from flowprov.journal.own_file import FileTaken, OwnFile
from flowprov.records import Footer, Heartbeat, encode


class JournalFile(NamedTuple):
    """A new journal file: its path, and the file (for reading and writing, locked, not inherited by exec)."""

    path: Path
    file: OwnFile


def create_journal_file(
    buffer: Path, campaign_id: str, hostname: str, journal_id: str, mode: int = PRIVATE
) -> JournalFile:
    """Create the file of a journal in ``buffer``, else in the temporary folder.

    Parameters
    ----------
    buffer
        The buffer folder; created if it is missing.
    campaign_id, hostname, journal_id
        The parts of the file's name.
    mode
        Who may read it, as ``chmod`` has it; only this user may write. In the temporary folder, nobody else
        may do either.

    Raises
    ------
    OSError
        If the file can be created in neither of the two folders.
    """
    try:
        return _create_in(buffer, campaign_id, hostname, journal_id, mode)
    except OSError as error:
        pass_on(error)
        fallback = own_fallback_folder()
        created = _create_in(fallback, campaign_id, hostname, journal_id, PRIVATE)
        guard.warn_once(
            f"buffer {buffer}",
            "flowprov cannot write its buffer in %s (%s); this run is recorded in %s instead. "
            "Set journal.path to a folder that can be written.",
            buffer,
            error.strerror or error,
            fallback,
        )
        return created


def create_beside(path: Path, campaign_id: str, hostname: str, journal_id: str, mode: int) -> JournalFile:
    """Create the file of a journal in the folder of an earlier one of the same process.

    Raises
    ------
    OSError
        If it cannot be created there.
    """
    return _create_in(path.parents[2], campaign_id, hostname, journal_id, mode)


_TRIES = 200  # a process that removes a buffer again and again was ahead of this one 20 times in a row
UNWRITTEN = ".unwritten"
"""The suffix of the empty file that stands for a journal that could not be written."""


def leave_trace(created: JournalFile) -> None:
    """Leave an empty file of another name for a new one that cannot be written.

    A full disk still takes names. Who reads the buffer sees by it that a process took part. The next try
    removes it, if it succeeds.
    """
    try:
        os.ftruncate(created.file.fileno(), 0)
        os.rename(created.path, created.path.with_suffix(UNWRITTEN))  # noqa: PTH104 - as in _create_in
    except OSError as error:  # then nothing is left
        pass_on(error)
    finally:
        created.file.close()


def remove_trace(path: Path) -> None:
    """Remove the trace of a journal that is written after all."""
    try:
        os.unlink(path.with_suffix(UNWRITTEN))  # noqa: PTH108 - as in _create_in
    except OSError as error:  # in nearly all cases there is none
        pass_on(error)


def discard(created: JournalFile) -> None:
    """Remove a new file that could not be used; the next try creates it again."""
    created.file.close()
    with contextlib.suppress(FileNotFoundError):
        os.unlink(created.path)  # noqa: PTH108 - as in _create_in


def discard_beside(path: Path, journal_id: str, other_id: str) -> None:
    """Remove the file of another id beside a journal; as a rule there is none."""
    try:
        os.unlink(path.with_name(path.name.replace(journal_id, other_id)))  # noqa: PTH108 - as in discard
    except OSError as error:
        pass_on(error)


Fate: TypeAlias = Literal["removed", "moved", "cut", "closed"] | None


def fate_of(path: Path, file: OwnFile) -> Fate:
    """Return what became of the file of a journal that is being written; None if it is where it was.

    Parameters
    ----------
    path
        The path under which it was created.
    file
        The file.
    """
    try:
        own = os.fstat(file.fileno())
        if own.st_nlink == 0 or _is_removed_on_nfs(file):
            return "removed"
        now = path.stat()
    except FileNotFoundError as error:
        pass_on(error)
        return "moved"
    except FileTaken:
        return "closed"
    except (OSError, ValueError) as error:  # not to be found out just now
        pass_on(error)
        return None
    return None if (now.st_dev, now.st_ino) == (own.st_dev, own.st_ino) else "moved"


def _is_removed_on_nfs(file: OwnFile) -> bool:
    """Whether a client of NFS keeps a removed file under another name for as long as it is open."""
    try:
        return os.path.basename(os.readlink(f"/proc/self/fd/{file.fileno()}")).startswith(".nfs")  # noqa: PTH119, PTH115
    except OSError as error:
        pass_on(error)
        return False


def _create_in(buffer: Path, campaign_id: str, hostname: str, journal_id: str, mode: int) -> JournalFile:
    path = journal_path(buffer, campaign_id, hostname, os.getpid(), journal_id)
    for _ in range(_TRIES):
        try:
            return _create_at(path, buffer, mode)
        except FileNotFoundError as error:  # noqa: PERF203 - somebody removes the buffer just now
            pass_on(error)
    return _create_at(path, buffer, mode)


def _create_at(path: Path, buffer: Path, mode: int) -> JournalFile:
    create_folder(path.parent, mode)
    check_folders(buffer, path.parent.parent, path.parent, mode=mode)
    try:
        created = JournalFile(path, OwnFile(path, permissions=PRIVATE))
    except FileExistsError as error:
        pass_on(error)
        os.unlink(path)  # noqa: PTH108 - this process was interrupted here before: the id is its own
        created = JournalFile(path, OwnFile(path, permissions=PRIVATE))
    try:
        set_mode(created.file.fileno(), mode & ~OTHERS_WRITE)  # who cuts a mapped file kills its writer
        hold_lock(created.file.fileno())  # until this process ends: a free lock tells that the writer is gone
    except BaseException:  # of a signal handler: it passes on
        discard(created)
        raise
    return created


def reopen(path: Path, mode: Literal["a", "r+"] = "a") -> io.FileIO:
    """Open a journal once more; it must be there."""
    return io.FileIO(path, mode, opener=_open_existing)


def _open_existing(path: str, flags: int) -> int:
    return open_no_link(path, flags & ~os.O_CREAT)


class ReservedSlot:
    """The bytes behind the header of a journal, for the last heartbeat and the footer of a full journal.

    Parameters
    ----------
    path
        The journal.
    offset
        The end of its header, in bytes.
    file
        The file, as its writer has it.
    """

    def __init__(self, path: Path, offset: int, file: OwnFile | None = None) -> None:
        self._path = path
        self._offset = offset
        self._file = file

    def write_record(self, record: Heartbeat | Footer) -> bool:
        """Write a record into the slot, without the faults of ours if it does not fit; as :meth:`write`."""
        line = encode(record)
        if len(line) >= RESERVED_SLOT:
            line = encode(msgspec.structs.replace(record, internal_errors=None))
        return self.write(line)

    def write(self, line: bytes) -> bool:
        """Write a line into the slot, over the line that is there; return whether that worked."""
        unused = RESERVED_SLOT - len(line)
        if unused < 1:
            return False
        data = line + padding_line(unused)
        try:
            # Where the writer appends (O_APPEND), its own descriptor can write at the end only.
            if self._file is not None and not fcntl.fcntl(self._file, fcntl.F_GETFL) & os.O_APPEND:
                return os.pwrite(self._file.fileno(), data, self._offset) == RESERVED_SLOT
            with reopen(self._path, "r+") as file:
                if self._file is not None and fate_of(self._path, self._file) is not None:
                    return False
                return os.pwrite(file.fileno(), data, self._offset) == RESERVED_SLOT
        except OSError as error:
            pass_on(error)
            guard.logger.debug("flowprov could not write behind the header of %s: %s", self._path, error)
            return False
