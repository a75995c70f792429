"""The protocol of a sink, three methods and two errors, and that of a sink reader.

Flows in: lines of journals, in order, each with its position. Flows out: nothing; a sink stores the lines on
a server.

A record is identified by its journal and its position, so delivering it twice changes nothing: the server
refuses the second copy.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

from flowprov.records import Header

# The position under which a footer in the reserved slot is delivered: behind all other lines.
LATE_FOOTER = 1 << 62


class Entry(NamedTuple):
    """One line of a journal, control records included.

    Attributes
    ----------
    position
        Byte offset of the line in its journal.
    line
        The line, without its newline.
    """

    position: int
    line: bytes


class Sink(Protocol):
    """A server that stores records.

    Every method may raise :class:`SinkUnavailableError` or :class:`SinkRefusedError`, and nothing else. No
    method waits longer than the timeout of the sink. A sink connects at the first call that needs a
    connection, and again after a failure.
    """

    name: str

    def resume_after(self, header: Header) -> int | None:
        """Return the position up to which the sink holds a journal without a gap; None if it holds none."""

    def deliver(self, header: Header, entries: Sequence[Entry]) -> None:
        """Store entries of a journal, in the order of their positions; entries it holds change nothing.

        When this returns, all entries are stored as safely as the server is configured to store.
        """

    def close(self) -> None:
        """Close the connection."""


class SinkReader(Protocol):
    """A server from which journals are read back.

    Every method may raise :class:`SinkError`; the iterators may raise it at any step.
    """

    def campaign_ids(self) -> list[str]:
        """Return the ids of the campaigns."""

    def journal_ids(self, campaign_id: str) -> list[str]:
        """Return the ids of the journals that hold records of a campaign, even if they belong to another."""

    def ends(self, journal_ids: Sequence[str], count: int) -> Iterator[list[Entry]]:
        """Yield for each journal its first and its last entries in order, about ``count`` of each."""

    def entries(
        self, journal_id: str, after: int | None = None, *, confirmed: bool = False
    ) -> Iterator[Entry]:
        """Yield the entries of a journal behind a position, in order; if ``confirmed``, to the first gap."""

    def count(self, journal_id: str) -> int:
        """Return the number of lines of a journal that the server holds."""

    def close(self) -> None:
        """Close the connection."""


def batched(entries: Sequence[Entry], max_entries: int, max_bytes: int) -> Iterator[list[Entry]]:
    """Divide entries into batches that fit into one exchange with a server; a long line is a batch by itself.

    Parameters
    ----------
    entries
        The entries; none make no batch.
    max_entries, max_bytes
        Largest number of entries, and of bytes of lines, in one batch.
    """
    batch: list[Entry] = []
    size = 0
    for entry in entries:
        if batch and (len(batch) >= max_entries or size + len(entry.line) > max_bytes):
            yield batch
            batch, size = [], 0
        batch.append(entry)
        size += len(entry.line)
    if batch:
        yield batch
