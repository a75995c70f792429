"""What one journal holds, beside what its writer says that it wrote.

Flows in: one journal. Flows out: a :class:`JournalReport`, and on the way each of its records to whoever has
a use for it, so that a journal is read once.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from flowprov.journal.reader import Damage
from flowprov.journal.summary import JournalSummary
from flowprov.read.decoding import reader_of
from flowprov.records import Footer, Header, Heartbeat, LeftOut, Record, Task, Workflow


class JournalReport(NamedTuple):
    """A journal and what it holds, to compare with what its writer says.

    Attributes
    ----------
    path, header, footer, alive
        The journal, who wrote it, its footer (None if it was not closed), and whether its writer is there.
    captured, written, dropped
        What the footer says, else the last heartbeat: events met, events written, events lost by reason.
    found
        Events that were read: it equals ``written`` where there is a footer and nothing is damaged.
    damages
        What could not be read.
    heartbeat
        The last one; None if the process wrote none.
    lines, last
        How many records were read, control records included, and where the last one stands.
    """

    path: Path
    header: Header
    footer: Footer | None
    alive: bool
    captured: int
    written: int
    dropped: dict[str, int]
    found: int
    damages: list[Damage]
    heartbeat: Heartbeat | None = None
    lines: int = 0
    last: int | None = None


def report_on(journal: JournalSummary, take: Callable[[Record], object] | None = None) -> JournalReport:
    """Read a journal and report on it.

    Parameters
    ----------
    journal
        The journal. Whether its writer was alive must have been looked up before.
    take
        Called with each record.
    """
    reader = reader_of(journal)
    found, heartbeat, footer = 0, None, journal.footer
    count, last = 0, None
    missing: list[Damage] = []
    read = reader.read()
    first = next(read, None)
    if first is not None and not isinstance(first[1], Header):
        missing = _missing_beginning(journal, first[0], reader.damages)
    for position, record in chain(() if first is None else (first,), read):
        count, last = count + 1, position
        if type(record) in (Task, Workflow, LeftOut):
            found += 1
        elif isinstance(record, Heartbeat):
            # Not the last in the file: one behind the header is younger than those after it.
            if heartbeat is None or record.captured >= heartbeat.captured:
                heartbeat = record
        elif isinstance(record, Footer):
            footer = record  # it may have been closed since it was looked at
        if take is not None:
            take(record)
    said = footer or heartbeat
    alive = journal.alive and footer is None
    damages = [*missing, *reader.damages]
    if reader.unfinished is not None and not alive:
        damages.append(reader.unfinished)
    return JournalReport(
        journal.path,
        journal.header,
        footer,
        alive,
        said.captured if said else 0,
        said.written if said else 0,
        (said.dropped if said else None) or {},
        found,
        damages,
        heartbeat,
        count,
        last,
    )


def _missing_beginning(journal: JournalSummary, first: int, damages: list[Damage]) -> list[Damage]:
    """Tell of a beginning of which nothing is left: a server was told to keep only the end of a journal."""
    if any(damage.offset < first for damage in damages):
        return []  # it is there, and told of already
    return [Damage(journal.path, 0, first, "its beginning is missing, the header with it")]
