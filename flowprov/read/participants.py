"""Which processes took part in a campaign and left no journal in its buffer.

Flows in: what journals say of the children of their processes, and the files beside the journals. Flows out:
sentences on processes of which something is missing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path

from flowprov.journal.files import UNWRITTEN
from flowprov.journal.folders import fallback_folder, is_own
from flowprov.journal.format import find_journals, folder_names
from flowprov.journal.reader import read_head
from flowprov.records import Participant, Record


class KnownParticipants:
    """The child processes that the journals of a campaign name."""

    def __init__(self) -> None:
        self._named: dict[str, Participant] = {}

    def add(self, record: Record) -> None:
        """Add what a record says; most say nothing of other processes."""
        if type(record) is Participant:
            self._named[record.journal_id] = record

    def missing(self, present: Collection[str], *, running: bool) -> Iterator[str]:
        """Yield a sentence for each process whose journal is not there.

        While others are running, a journal that is not there may still come.
        """
        for journal_id, participant in self._named.items():
            if journal_id not in present and (participant.reason or not running):
                what = participant.reason or f"{participant.journal} is gone"
                yield f"process {participant.pid} on {participant.hostname} has no journal here: {what}"

    def names(self, journal_id: str) -> bool:
        """Whether a journal is named."""
        return journal_id in self._named


def unwritten(folders: Collection[Path], known: KnownParticipants) -> Iterator[str]:
    """Yield a sentence for each process that could not write its journal, by the traces in folders of hosts.

    Parameters
    ----------
    folders
        The folders.
    known
        The processes that journals name already.
    """
    for folder in sorted(folders):
        for path in sorted(folder.glob(f"*{UNWRITTEN}")):
            pid, _, journal_id = path.stem.partition("-")
            if not known.names(journal_id):
                yield f"process {pid} on {folder.name} could not write its journal: {path} is empty"


def in_last_resort(campaign_id: str, buffer: Path, present: Collection[str]) -> Iterator[str]:
    """Yield a sentence for each journal of a campaign that lies in the folder of last resort.

    Parameters
    ----------
    campaign_id, buffer
        The campaign and its buffer.
    present
        The journals that were read.
    """
    last_resort = fallback_folder()
    if last_resort == buffer or not is_own(last_resort):
        return
    for name in folder_names(campaign_id):
        for path in find_journals(last_resort / name):
            try:
                header = read_head(path).header
            except OSError:  # somebody else's
                continue
            if header is None or header.campaign_id != campaign_id or header.journal_id in present:
                continue
            yield (
                f"journal {header.journal_id} of process {header.pid} lies in {path.parent}, as its process "
                f"could not write in the buffer: copy it to {buffer / name / path.parent.name}"
            )
