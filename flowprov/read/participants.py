"""Which processes took part in a campaign and left no journal in its buffer.

Flows in: what journals say of the children of their processes, and the files beside the journals. Flows out:
sentences on processes of which something is missing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path

from flowprov.journal.files import UNWRITTEN
from flowprov.journal.folders import fallback_folder, is_own
from flowprov.journal.format import SUFFIX, find_journals, folder_names, is_journal_name
from flowprov.journal.liveness import host_name, is_gone_for_sure, is_recent, process_start
from flowprov.journal.reader import header_from_path, read_head
from flowprov.journal.summary import summarize
from flowprov.records import Participant, Record

_BEGINNING_S = 10.0  # more than a process takes from creating a file to its header


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


def overwritten(
    folders: Collection[Path], present: Collection[str], known: KnownParticipants
) -> Iterator[str]:
    """Yield a sentence for each file in folders of hosts that is named after a journal and does not hold it.

    Parameters
    ----------
    folders
        The folders.
    present
        The journals that were read.
    known
        The processes that journals name already.
    """
    for folder in sorted(folders):
        for path in sorted(folder.glob(f"*{SUFFIX}")):
            pid, _, journal_id = path.stem.partition("-")
            if journal_id in present or known.names(journal_id) or not is_journal_name(path.name):
                continue
            if what := _content_instead(path):
                yield f"the journal of process {pid} on {folder.name} is not there: {path} {what}"


def _content_instead(path: Path) -> str | None:
    """Return what a file holds in place of its journal; None if it holds that, or may be about to."""
    header = header_from_path(path)
    try:
        summary = summarize(path)
        changed_at = path.stat().st_ctime_ns
    except OSError:  # it cannot be read, which is said elsewhere, or it went away
        return None
    if summary is not None:
        is_another = summary.header.journal_id != header.journal_id
        return "is a copy of another one" if is_another else None
    is_here = header.hostname == host_name()
    is_gone = is_here and process_start(header.pid) is None and is_gone_for_sure(path, header)
    if not is_gone and is_recent(changed_at, _BEGINNING_S):
        return None
    return "holds no record, as it was emptied or overwritten, or its process was killed as it began"


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
