"""A journal of records that were made elsewhere. It appears in a buffer when it is complete.

Flows in: records, in the order in which they happened. Flows out: a journal in the buffer; nothing if the
import is interrupted or fails.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from flowprov.errors import JournalError
from flowprov.journal import Identity, Journal
from flowprov.journal.folders import create_folder
from flowprov.journal.format import find_journals
from flowprov.journal.liveness import host_name
from flowprov.records import Campaign
from flowprov.settings import JournalSettings
from flowprov.version import __version__


@contextmanager
def staged_journal(campaign: Campaign, program: str, settings: JournalSettings) -> Iterator[Journal]:
    """Create a journal for the block; behind it, its files lie in the buffer of the settings.

    Parameters
    ----------
    campaign
        The campaign to which the records belong.
    program
        What made them.
    settings
        The ``journal`` part of the settings; ``path`` is the buffer.

    Raises
    ------
    JournalError
        If the journal cannot be written.
    """
    buffer = Path(settings.path)
    with tempfile.TemporaryDirectory(prefix="flowprov-import-") as folder:
        staging = msgspec.structs.replace(settings, path=folder, max_bytes=None)
        identity = Identity(
            campaign_id=campaign.campaign_id,
            campaign=campaign,
            hostname=host_name(),
            program=program,
            flowprov=__version__,
        )
        journal = Journal(staging, identity)
        try:
            yield journal
        finally:
            journal.close()
        _, written, dropped = journal.counts()
        files = find_journals(Path(folder))
        if dropped or (written and not files):
            raise JournalError(f"{folder} cannot be written, so nothing was imported: is the disk full?")
        _move(files, Path(folder), buffer, settings.file_mode)


def _move(files: list[Path], staging: Path, buffer: Path, mode: int) -> None:
    """Move files into the buffer. Each is copied beside its place, as that may be on another disk."""
    moved: list[Path] = []
    try:
        for path in files:
            target = buffer / path.relative_to(staging)
            create_folder(target.parent, mode)
            beside = target.with_suffix(".importing")
            moved.append(beside)
            shutil.copy(path, beside)
        for beside, path in zip(moved, files, strict=True):
            os.replace(beside, beside.with_name(path.name))  # noqa: PTH105 - the name stays
    except OSError as error:
        raise JournalError(
            f"{buffer} cannot be written ({error.strerror or error}), so nothing was imported. Make room, or "
            "give another folder."
        ) from error
    finally:
        for beside in moved:
            beside.unlink(missing_ok=True)
