"""Turn the journals that a server holds into files again.

Flows in: a server's entries. Flows out: journals in a temporary folder. They are kept up to date by asking
only for the entries that came since the last time. All other code reads files, so a campaign is the same from
every source.

Each line has the same offset in its copy as in the journal. What was not delivered is a hole, which reads as
padding. So writing a line twice changes nothing, positions are the same in every source, and a follower can
continue in one source at the position that it had in another.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from collections.abc import Iterable
from pathlib import Path

import msgspec

from flowprov.journal.format import folder_name, folder_names, journal_path
from flowprov.journal.liveness import is_long_silent
from flowprov.journal.summary import JournalSummary
from flowprov.records import NOT_A_RECORD, Header, decode
from flowprov.sinks.base import LATE_FOOTER, Entry, SinkReader
from flowprov.sinks.registry import open_reader

_MAX_END_ENTRIES = 16  # as many entries as the summary of a journal reads
_WRITE_SIZE = 1 << 20  # bytes that are collected before they are written
_LARGEST_POSITION = 1 << 43  # no file system holds a longer file; a server may say anything
_MAX_NAME = 200
_FOOTER = b'{"type":"footer"'
_UNKNOWN_PID = 0


class Mirror:
    """The journals of a server, in a temporary folder.

    The folder and the connection are removed when the mirror is garbage-collected.

    Parameters
    ----------
    uri
        The server.
    confirmed
        Whether to fetch only entries without a gap before them, as a follower must; else all entries.
    """

    def __init__(self, uri: str, *, confirmed: bool = False) -> None:
        self._uri = uri
        self._remote = open_reader(uri)
        self._confirmed = confirmed
        self._folder = Path(tempfile.mkdtemp(prefix="flowprov-"))
        self._copies: dict[str, _Copy] = {}
        self._end_files: dict[str, Path] = {}
        self._closed_journals: set[str] = set()
        self._campaign_ids: dict[Path, str] = {}
        weakref.finalize(self, _clean_up, self._remote, self._folder, os.getpid())

    def for_following(self) -> Mirror:
        """Return another mirror of the server, which never has a line before the lines in front of it."""
        return Mirror(self._uri, confirmed=True)

    def fetch_ends(self) -> list[Path]:
        """Fetch the beginnings and ends of all journals, enough to summarize them; return the files."""
        campaign_of: dict[str, str] = {}
        for campaign_id in self._remote.campaign_ids():
            for journal_id in self._remote.journal_ids(campaign_id):
                campaign_of.setdefault(journal_id, campaign_id)
        growing = [journal_id for journal_id in campaign_of if journal_id not in self._closed_journals]
        for journal_id, entries in zip(growing, self._remote.ends(growing, _MAX_END_ENTRIES), strict=True):
            if entries:
                path = self._create_path("ends", journal_id, campaign_of[journal_id], entries[0])
                path.write_bytes(b"".join(entry.line + b"\n" for entry in entries))
                self._end_files[journal_id] = path
                if entries[-1].line.startswith(_FOOTER):
                    self._closed_journals.add(journal_id)
        return sorted(self._end_files[name] for name in campaign_of if name in self._end_files)

    def fetch(self, campaign_id: str) -> list[Path]:
        """Fetch the new entries of one campaign; return the files of all journals that the server lists.

        Journals of other campaigns may be among them: a journal that had lost its header was delivered under
        the name of its folder, and in old buffers that can be the name of several campaigns.
        """
        listed: set[Path] = set()
        for listed_id in self._remote.campaign_ids():
            if listed_id not in folder_names(campaign_id) and campaign_id not in (
                listed_id,
                folder_name(listed_id),  # the caller may know only the name of the campaign's folder
            ):
                continue
            for journal_id in self._remote.journal_ids(listed_id):
                copy = self._copies.setdefault(journal_id, _Copy())
                if not copy.closed:
                    self._update(journal_id, listed_id, copy)
                if copy.path is not None:
                    listed.add(copy.path)
        return sorted(listed)

    def _update(self, journal_id: str, campaign_id: str, copy: _Copy) -> None:
        for confirmed in (True,) if self._confirmed else (True, False):
            # Unconfirmed entries are fetched again the next time, as lines may come in between.
            entries = self._remote.entries(journal_id, copy.after, confirmed=confirmed)
            for entry in entries:
                if not (0 <= entry.position <= _LARGEST_POSITION or entry.position == LATE_FOOTER):
                    continue
                if copy.path is None:
                    copy.path = self._create_path("journals", journal_id, campaign_id, entry)
                copy.add(entry, confirmed=confirmed)
            copy.write()

    def _create_path(self, subfolder: str, journal_id: str, campaign_id: str, first: Entry) -> Path:
        """Create the folder of a journal; return the journal's path, by its header or else by its ids."""
        header = _find_header([first])
        hostname, pid = (header.hostname, header.pid) if header else ("", _UNKNOWN_PID)
        owner = header.campaign_id if header else campaign_id
        name = folder_name(journal_id)[-_MAX_NAME:]  # with a pid before it, it must be a file's name
        path = journal_path(self._folder / subfolder, owner, hostname, pid, name)
        if header is None:
            self._campaign_ids[path] = campaign_id
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def with_liveness(self, summary: JournalSummary) -> JournalSummary:
        """Return a summary with ``alive``, which follows from the writer's last sign of life."""
        header = summary.header
        if not header.started_at and summary.path in self._campaign_ids:
            campaign_id = self._campaign_ids[summary.path]
            header = msgspec.structs.replace(header, campaign_id=campaign_id, hostname="")
        alive = summary.footer is None and not is_long_silent(header, summary.last_at)
        return summary._replace(header=header, alive=alive)


class _Copy:
    """The copy of one journal.

    Attributes
    ----------
    path
        Its file; None before the first entry.
    after
        The position up to which the copy has no gap.
    closed
        Whether the copy has the footer and everything before it.
    """

    def __init__(self) -> None:
        self.path: Path | None = None
        self.after: int | None = None
        self.closed = False
        self._confirmed: int | None = None
        self._line_count = 0
        self._last_line = b""
        self._unwritten_at = 0
        self._unwritten = bytearray()
        self._end = 0
        self._late_footer_at: int | None = None

    def add(self, entry: Entry, *, confirmed: bool) -> None:
        """Add an entry; adjacent entries are written together."""
        position = entry.position
        if position == LATE_FOOTER:  # a footer that was delivered last and has no offset of its own
            self._late_footer_at = position = (
                self._end if self._late_footer_at is None else self._late_footer_at
            )
        if position != self._unwritten_at + len(self._unwritten) or len(self._unwritten) >= _WRITE_SIZE:
            self._flush()
            self._unwritten_at = position
        self._unwritten += entry.line + b"\n"
        self._end = max(self._end, position + len(entry.line) + 1)
        if confirmed:
            self._confirmed = entry.position
            self._line_count += 1
            self._last_line = entry.line

    def write(self) -> None:
        """Write the added entries to the file."""
        self._flush()
        # A footer directly behind the header is in the reserved slot of a full disk, and records follow it.
        self.closed = self._line_count > 2 and self._last_line.startswith(_FOOTER)

    def _flush(self) -> None:
        if self._unwritten and self.path is not None:
            with os.fdopen(os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600), "wb") as file:
                file.seek(self._unwritten_at)
                file.write(self._unwritten)
            self._unwritten_at += len(self._unwritten)
            self._unwritten.clear()
        self.after = self._confirmed


def _find_header(entries: Iterable[Entry]) -> Header | None:
    for entry in entries:
        try:
            record = decode(entry.line)
        except NOT_A_RECORD:
            continue
        if isinstance(record, Header):
            return record
    return None


def _clean_up(remote: SinkReader, folder: Path, owner: int) -> None:
    if os.getpid() == owner:  # the connection and the folder of a forked child belong to its parent
        remote.close()
        shutil.rmtree(folder, ignore_errors=True)
