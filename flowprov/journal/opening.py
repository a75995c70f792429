"""Opening a journal: its file with header and reserved slot, and the writer that appends to it.

Flows in: settings, and the facts for the header. Flows out: an :class:`OpenFile`, or an exception and no
file.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from flowprov import records
from flowprov.journal import files, writer
from flowprov.journal.append_writer import AppendWriter
from flowprov.journal.files import JournalFile, ReservedSlot
from flowprov.journal.folders import PRIVATE
from flowprov.journal.format import RESERVED_SLOT, padding_line
from flowprov.journal.header import Identity, make_header
from flowprov.journal.mmap_writer import FIRST_SEGMENT, MmapWriter
from flowprov.journal.own_file import OwnFile
from flowprov.journal.queued_writer import QueuedWriter
from flowprov.journal.write_failures import JournalFull
from flowprov.journal.writer import NO_LIMITS, SizeLimits
from flowprov.settings import JournalSettings


class OpenFile(NamedTuple):
    """The file of a journal, open for appending."""

    path: Path
    file: OwnFile
    writer: writer.Writer
    reserved_slot: ReservedSlot
    beginning: int  # its length in bytes


def open_file(
    settings: JournalSettings,
    identity: Identity,
    campaign: records.Campaign | None,
    journal_id: str,
    *,
    first_number: int,
    ancestors: list[tuple[str, int]],
    previous: str | None = None,
    limits: SizeLimits = NO_LIMITS,
    beside: Path | None = None,
) -> OpenFile:
    """Create the file of a journal and write its beginning.

    Parameters
    ----------
    settings
        The ``journal`` part of the settings.
    identity, first_number, ancestors, previous
        For the header.
    campaign
        The record that names the campaign.
    journal_id
        Id of the journal.
    limits, beside
        How large the file may become; the file of the same process that is left for it, and goes on without.

    Raises
    ------
    JournalFull, OSError
        If the file cannot be created or written. It does not exist then, and another call may try again.
    """
    created, new_writer = _create(settings, identity, journal_id, beside), None
    try:
        new_writer = create_writer(settings, created, limits._replace(roll_bytes=None))
        header = records.encode(
            make_header(
                identity,
                journal_id,
                heartbeat_s=settings.heartbeat,
                first_number=first_number,
                ancestors=ancestors,
                previous=previous,
            )
        )
        new_writer.append(header)
        new_writer.append(padding_line(RESERVED_SLOT))
        if campaign is not None:
            new_writer.append(records.encode(campaign))
        new_writer.limits = limits
        slot = ReservedSlot(created.path, len(header), created.file)
        created.file.keep()
        files.remove_trace(created.path)
        return OpenFile(created.path, created.file, new_writer, slot, new_writer.end())
    except BaseException as error:  # raised on: the disk is full from the start, or a signal handler raised
        _end_thread(new_writer)
        is_refused = isinstance(error, (OSError, JournalFull))
        (files.leave_trace if is_refused and beside is None else files.discard)(created)
        raise


def discard_unused(opened: OpenFile) -> None:
    """Remove a file that was opened and is not used; the next try creates it again."""
    _end_thread(opened.writer)
    files.discard(JournalFile(opened.path, opened.file))


def _end_thread(unused: writer.Writer | None) -> None:
    if isinstance(unused, QueuedWriter):
        unused.end_thread()


def _create(
    settings: JournalSettings, identity: Identity, journal_id: str, beside: Path | None
) -> JournalFile:
    """Create the file: in the buffer of the settings, or beside another one."""
    buffer, whose = Path(settings.path), (identity.campaign_id, identity.hostname, journal_id)
    if beside is None:
        return files.create_journal_file(buffer, *whose, settings.file_mode)
    # That may lie in the temporary folder.
    mode = PRIVATE if beside.parents[2] != buffer else settings.file_mode
    return files.create_beside(beside, *whose, mode)


def create_writer(
    settings: JournalSettings, created: JournalFile | OpenFile, limits: SizeLimits
) -> writer.Writer:
    """Return a writer for a file: the one of the settings, with a queue where the file system may hang."""
    if writer.choose_writer(settings.writer) == "mapped":
        return MmapWriter(
            created.file, limits, first=min(FIRST_SEGMENT, settings.roll_bytes or FIRST_SEGMENT)
        )
    if settings.writer == "queued" or writer.may_hang(created.path.parent):
        return QueuedWriter(created.file, limits, settings.max_wait)
    return AppendWriter(created.file, limits)
