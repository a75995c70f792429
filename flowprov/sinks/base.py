"""What a sink is: three methods, and two ways to fail.

Flows in: lines of journals, in order, each with its position. Flows out: nothing; a sink keeps them on a
server.

A record is identified by its journal and its position in it, so delivering twice changes nothing: the server
itself, or the identifier of the document, refuses the second copy.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

from flowprov.errors import FlowprovError
from flowprov.records import Header

# Schemes of the URIs for which there is a sink.
REDIS = ("redis", "rediss", "unix")
MONGODB = ("mongodb", "mongodb+srv")


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


class SinkError(FlowprovError):
    """A delivery failed; it is tried again later.

    Parameters
    ----------
    message
        What happened, fit for a person and without credentials.
    """


class SinkUnavailableError(SinkError):
    """The server cannot be reached, does not answer in time, or broke the connection."""


class SinkRefusedError(SinkError):
    """The server answers and does not take records: wrong password, read-only, out of memory or disk."""


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


def in_parts(entries: Sequence[Entry], most: int, most_bytes: int) -> Iterator[list[Entry]]:
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
