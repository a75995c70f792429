"""What a sink is: three methods, and two ways to fail.

Flows in: lines of journals, in order, each with its position. Flows out: nothing; a sink keeps them on a
server.

A record is identified by its journal and its position in it, so delivering twice changes nothing: the server
itself, or the identifier of the document, refuses the second copy.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

from flowprov.records import Header

# Position of a footer that a full disk drove into the room behind the header: it comes after all others.
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
    """A server that keeps records.

    Every method may raise :class:`SinkUnavailableError` or :class:`SinkRefusedError`, and nothing else; none
    waits longer than the timeouts that the sink was made with. A sink connects at the first call that needs
    it, and anew after a failure.
    """

    name: str

    def resume_after(self, header: Header) -> int | None:
        """Give the position up to which a journal is held without a gap, None if nothing of it is."""

    def deliver(self, header: Header, entries: Sequence[Entry]) -> None:
        """Store entries of a journal, in the order of their positions; those it holds already change nothing.

        When it returns, all of them are stored as safely as the server was told to store.
        """

    def close(self) -> None:
        """Let go of the connection."""


class SinkReader(Protocol):
    """A server from which journals are read; every method may raise SinkError, `entries` on its way too."""

    def campaign_ids(self) -> list[str]:
        """List the campaigns."""

    def journal_ids(self, campaign_id: str) -> list[str]:
        """List the journals of a campaign; some may have records of it and belong to another."""

    def ends(self, journal_ids: Sequence[str], count: int) -> Iterator[list[Entry]]:
        """Give for each journal its first and its last entries in order, about ``count`` of each."""

    def entries(
        self, journal_id: str, after: int | None = None, *, confirmed: bool = False
    ) -> Iterator[Entry]:
        """Give the entries of a journal behind a position, in order; if asked only to the first gap."""

    def count(self, journal_id: str) -> int:
        """Count the lines of a journal that are held."""

    def close(self) -> None:
        """Let go of the connection."""


def batched(entries: Sequence[Entry], most: int, most_bytes: int) -> Iterator[list[Entry]]:
    """Divide a batch into parts that one exchange with a server can carry; a long line is a part by itself.

    Parameters
    ----------
    entries
        The batch; of an empty one there are no parts.
    most, most_bytes
        Entries, and bytes of lines, of one part.
    """
    part: list[Entry] = []
    size = 0
    for entry in entries:
        if part and (len(part) >= most or size + len(entry.line) > most_bytes):
            yield part
            part, size = [], 0
        part.append(entry)
        size += len(entry.line)
    if part:
        yield part
