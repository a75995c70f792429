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
from flowprov.journal.format import RESERVED_SLOT, padding_line
from flowprov.journal.header import Identity, make_header
from flowprov.journal.mmap_writer import MmapWriter
from flowprov.journal.own_file import OwnFile
from flowprov.journal.queued_writer import QueuedWriter
from flowprov.journal.write_failures import JournalFull
from flowprov.settings import JournalSettings


class OpenFile(NamedTuple):
    """The file of a journal, open for appending."""

    path: Path
    file: OwnFile
    writer: writer.Writer
    reserved_slot: ReservedSlot


def open_file(
    settings: JournalSettings,
    identity: Identity,
    campaign: records.Campaign | None,
    journal_id: str,
    *,
    first_number: int,
    ancestors: list[tuple[str, int]],
    previous: str | None = None,
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

    Raises
    ------
    JournalFull, OSError
        If the file cannot be created or written. It does not exist then, and another call may try again.
    """
    buffer = Path(settings.path)
    created = files.create_journal_file(
        buffer, identity.campaign_id, identity.hostname, journal_id, settings.file_mode
    )
    try:
        new_writer = create_writer(settings, created)
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
        slot = ReservedSlot(created.path, len(header), created.file)
        created.file.keep()
        files.remove_trace(created.path)
        return OpenFile(created.path, created.file, new_writer, slot)
    except (OSError, JournalFull):  # the disk is full from the start, or a limit is reached
        files.leave_trace(created)
        raise
    except BaseException:  # a signal handler raised: it passes on
        files.discard(created)
        raise


def create_writer(settings: JournalSettings, created: JournalFile | OpenFile) -> writer.Writer:
    """Return a writer for a file: the one of the settings, with a queue where the file system may hang."""
    if writer.choose_writer(settings.writer) == "mapped":
        return MmapWriter(created.file, settings.max_bytes)
    if settings.writer == "queued" or writer.may_hang(created.path.parent):
        return QueuedWriter(created.file, settings.max_bytes, settings.max_wait)
    return AppendWriter(created.file, settings.max_bytes)
