"""Reading what was delivered to a server: its journals, as files again.

Flows in: a server's entries. Flows out: the journals of one or of all campaigns in a temporary folder, kept
up to date by asking only for what came since. Everything behind it reads files, so a campaign looks the same
from every source, by construction.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from flowprov.errors import JournalError
from flowprov.journal.format import journal_path
from flowprov.journal.summary import JournalSummary
from flowprov.records import Header, decode
from flowprov.sinks.base import MONGODB, REDIS, Entry

_LOST_AFTER = 3  # heartbeats; a lock cannot be asked for over a network


class Remote(Protocol):
    """A server that holds journals."""

    def journal_ids(self, campaign_id: str | None = None) -> list[str]:
        """List the journals of a campaign, or of all."""

    def entries(self, journal_id: str, after: int | None = None) -> Iterator[Entry]:
        """Give the entries of a journal behind a position, in order."""

    def close(self) -> None:
        """Let go of the connection."""


def open_remote(uri: str) -> Remote:
    """Give the reader for a URI; it connects when it is first used.

    Raises
    ------
    JournalError
        If the URI is of no kind that can be read.
    MissingExtraError
        If the client library is not installed.
    """
    scheme = uri.partition("://")[0]
    if scheme in REDIS:
        from flowprov.sinks.redis import RedisSource

        return RedisSource(uri)
    if scheme in MONGODB:
        from flowprov.sinks.mongodb_reader import MongoSource

        return MongoSource(uri)
    raise JournalError(
        f"{scheme}:// cannot be read. Give the path of a buffer folder, a campaign folder, a host folder or "
        "one .jsonl journal, or the URI of a sink: redis://… or mongodb://…"
    )


class Mirror:
    """The journals of a server in a temporary folder, which goes when the mirror does."""

    def __init__(self, remote: Remote) -> None:
        self._remote = remote
        self._held: dict[str, _Held] = {}
        self._temporary = tempfile.TemporaryDirectory(prefix="flowprov-")
        self.folder = Path(self._temporary.name)

    def refresh(self, campaign_id: str | None = None) -> None:
        """Fetch what came since the last time, of one campaign or of all."""
        for journal_id in self._remote.journal_ids(campaign_id):
            held = self._held.setdefault(journal_id, _Held())
            entries = self._remote.entries(journal_id, held.after)
            for entry in entries:
                held.append(self.folder, entry)
            held.flush()

    def judge(self, summary: JournalSummary) -> JournalSummary:
        """Say whether the writer of a journal is there, by its last sign of life."""
        quiet = time.time_ns() - summary.last_at
        alive = summary.footer is None and quiet < _LOST_AFTER * summary.header.heartbeat_s * 1e9
        return summary._replace(alive=alive)


class _Held:
    """One journal of which entries were fetched."""

    def __init__(self) -> None:
        self.after: int | None = None
        self._path: Path | None = None
        self._lines: list[bytes] = []

    def append(self, folder: Path, entry: Entry) -> None:
        """Take an entry in; the first one is the header, which says where the journal belongs."""
        if self._path is None:
            header = decode(entry.line)
            if not isinstance(header, Header):
                return  # its beginning was trimmed away: what is left cannot be told whose it is
            self._path = journal_path(
                folder, header.campaign_id, header.hostname, header.pid, header.journal_id
            )
            self._path.parent.mkdir(parents=True, exist_ok=True)
        self._lines.append(entry.line)
        self.after = entry.position
        if len(self._lines) >= 10_000:
            self.flush()

    def flush(self) -> None:
        """Write what was taken in to the file."""
        if self._lines and self._path is not None:
            with self._path.open("ab") as file:
                file.write(b"\n".join(self._lines) + b"\n")
        self._lines.clear()
