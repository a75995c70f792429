"""Reading what was delivered to a server: its journals, as files again.

Flows in: a server's entries. Flows out: journals in a temporary folder, kept up to date by asking only for
what came since. Everything behind it reads files, so a campaign looks the same from every source, by
construction.

Each line stands in its copy at the very offset that it has in the journal, and what was not delivered is a
hole, which reads as padding. So writing a line twice changes nothing, the place of a line is the same in
every source, and a follower's position can be taken from one to another.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
import weakref
from collections.abc import Iterable
from pathlib import Path

import msgspec

from flowprov.journal.format import folder_name, journal_path
from flowprov.journal.summary import JournalSummary
from flowprov.records import Header, decode
from flowprov.sinks.base import LATE_FOOTER, Entry, SinkReader
from flowprov.sinks.registry import open_reader

_LOST_AFTER = 3  # heartbeats; a lock cannot be asked for over a network
_ENDS = 16  # entries: what a journal's summary looks at
_RUN = 1 << 20  # bytes that are written at once
_FOOTER = b'{"type":"footer"'
_UNKNOWN = 0


class Mirror:
    """The journals of a server in a temporary folder, which goes, with the connection, when the mirror does.

    Parameters
    ----------
    uri
        The server.
    confirmed
        Take only what is held without a gap before it. Who follows must; else all is taken that is there.
    """

    def __init__(self, uri: str, *, confirmed: bool = False) -> None:
        self._uri = uri
        self._remote = open_reader(uri)
        self._confirmed = confirmed
        self._folder = Path(tempfile.mkdtemp(prefix="flowprov-"))
        self._copies: dict[str, _Copy] = {}
        self._glances: dict[str, Path] = {}
        self._closed: set[str] = set()
        self._without_header: dict[Path, str] = {}
        weakref.finalize(self, _let_go, self._remote, self._folder, os.getpid())

    def for_following(self) -> Mirror:
        """Give another mirror of the server, for who must not meet a line before those in front of it."""
        return Mirror(self._uri, confirmed=True)

    def fetch_ends(self) -> list[Path]:
        """Fetch the beginnings and ends of all journals: enough to summarise them, and no more."""
        campaign_of: dict[str, str] = {}
        for campaign_id in self._remote.campaign_ids():
            for journal_id in self._remote.journal_ids(campaign_id):
                campaign_of.setdefault(journal_id, campaign_id)
        asked = [journal_id for journal_id in campaign_of if journal_id not in self._closed]
        for journal_id, entries in zip(asked, self._remote.ends(asked, _ENDS), strict=True):
            if entries:
                path = self._place("ends", journal_id, campaign_of[journal_id], entries[0])
                path.write_bytes(b"".join(entry.line + b"\n" for entry in entries))
                self._glances[journal_id] = path
                if entries[-1].line.startswith(_FOOTER):
                    self._closed.add(journal_id)
        return sorted(self._glances[each] for each in campaign_of if each in self._glances)

    def fetch(self, campaign_id: str) -> list[Path]:
        """Fetch of one campaign what came since the last time; gives the journals that the server lists."""
        listed: set[Path] = set()
        for known in self._remote.campaign_ids():
            if folder_name(known) != folder_name(campaign_id):
                continue  # of a campaign the name of its folder may be all that is known
            for journal_id in self._remote.journal_ids(known):
                copy = self._copies.setdefault(journal_id, _Copy())
                if not copy.closed:
                    self._update(journal_id, known, copy)
                if copy.path is not None:
                    listed.add(copy.path)
        return sorted(listed)

    def _update(self, journal_id: str, campaign_id: str, copy: _Copy) -> None:
        for confirmed in (True,) if self._confirmed else (True, False):
            # What is not confirmed is asked for again the next time: lines may come between.
            entries = self._remote.entries(journal_id, copy.after, confirmed=confirmed)
            for entry in entries:
                if copy.path is None:
                    copy.path = self._place("journals", journal_id, campaign_id, entry)
                copy.take(entry, settled=confirmed)
            copy.write()

    def _place(self, room: str, journal_id: str, campaign_id: str, first: Entry) -> Path:
        """Say where a journal stands, by its header, else by what the server knows of it."""
        header = _header_in([first])
        hostname, pid = (header.hostname, header.pid) if header else ("", _UNKNOWN)
        home = header.campaign_id if header else campaign_id
        path = journal_path(self._folder / room, home, hostname, pid, folder_name(journal_id))
        if header is None:
            self._without_header[path] = campaign_id
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def with_liveness(self, summary: JournalSummary) -> JournalSummary:
        """Say whether the writer of a journal is there, by its last sign of life."""
        header = summary.header
        if not header.started_at and summary.path in self._without_header:
            known = self._without_header[summary.path]
            header = msgspec.structs.replace(header, campaign_id=known, hostname="")
        quiet = time.time_ns() - summary.last_at
        alive = summary.footer is None and quiet < _LOST_AFTER * header.heartbeat_s * 1e9
        return summary._replace(header=header, alive=alive)


class _Copy:
    """One journal of which entries were fetched.

    Attributes
    ----------
    path
        Its file; None before the first entry.
    after
        The position up to which it is here without a gap.
    closed
        Whether its footer is here, and all before it.
    """

    def __init__(self) -> None:
        self.path: Path | None = None
        self.after: int | None = None
        self.closed = False
        self._settled: int | None = None
        self._lines = 0
        self._last = b""
        self._start = 0
        self._run = bytearray()
        self._end = 0
        self._late_at: int | None = None

    def take(self, entry: Entry, *, settled: bool) -> None:
        """Take an entry in; those next to each other are written together."""
        position = entry.position
        if position >= LATE_FOOTER:  # it came late, behind all others, and has no offset of its own
            self._late_at = position = self._end if self._late_at is None else self._late_at
        if position != self._start + len(self._run) or len(self._run) >= _RUN:
            self._flush()
            self._start = position
        self._run += entry.line + b"\n"
        self._end = max(self._end, position + len(entry.line) + 1)
        if settled:
            self._settled = entry.position
            self._lines += 1
            self._last = entry.line

    def write(self) -> None:
        """Bring to the file what was taken in."""
        self._flush()
        # Right behind the header stands the footer that a full disk drove there; records follow it.
        self.closed = self._lines > 2 and self._last.startswith(_FOOTER)

    def _flush(self) -> None:
        if self._run and self.path is not None:
            with os.fdopen(os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600), "wb") as file:
                file.seek(self._start)
                file.write(self._run)
            self._start += len(self._run)
            self._run.clear()
        self.after = self._settled


def _header_in(entries: Iterable[Entry]) -> Header | None:
    for entry in entries:
        try:
            record = decode(entry.line)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            continue
        if isinstance(record, Header):
            return record
    return None


def _let_go(remote: SinkReader, folder: Path, owner: int) -> None:
    if os.getpid() == owner:  # a forked child has neither the connection nor the folder
        remote.close()
        shutil.rmtree(folder, ignore_errors=True)
