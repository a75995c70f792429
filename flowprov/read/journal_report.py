"""Compare what one journal holds with what its writer counted.

Flows in: one journal. Flows out: a :class:`JournalReport`. A caller that needs the records too passes a
callback, so that the journal is read only once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from flowprov.journal.reader import Damage
from flowprov.journal.summary import JournalSummary
from flowprov.read.decoding import reader_of
from flowprov.records import COUNTED, Footer, Header, Heartbeat, Record


class JournalReport(NamedTuple):
    """What one journal holds, and what its writer counted.

    Attributes
    ----------
    path, header, footer, alive
        The file, its header, its footer (None if the journal was not closed), and whether its writer is still
        there.
    captured, written, dropped
        The writer's counts, from the footer or else from the last heartbeat: events captured, events written,
        and events dropped, by reason.
    found
        Events that were read. Equals ``written`` if there is a footer and nothing is damaged.
    damages
        The parts that could not be read.
    heartbeat
        The last heartbeat; None if there is none.
    lines, last
        The number of records that were read, control records included, and the position of the last one.
    internal_errors
        Faults of flowprov's own in the process of the writer, by activity and type; None if there was none.
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
    internal_errors: dict[str, int] | None = None


def report_on(
    journal: JournalSummary, on_record: Callable[[int, Record], object] | None = None
) -> JournalReport:
    """Read a journal and return a report on it.

    Parameters
    ----------
    journal
        The journal. Its ``alive`` must have been determined before this call.
    on_record
        Called with the position of each record, and the record.
    """
    reader = reader_of(journal)
    found, heartbeat, footer = 0, None, journal.footer
    lines, last = 0, None
    missing: list[Damage] = []
    records = reader.read()
    first = next(records, None)
    if first is not None and not isinstance(first[1], Header):
        missing = _missing_beginning(journal, first[0], reader.damages)
    for position, record in chain(() if first is None else (first,), records):
        lines, last = lines + 1, position
        if type(record) in COUNTED:
            found += 1
        elif isinstance(record, Heartbeat):
            # The heartbeat in the reserved slot stands before others in the file, but is the latest.
            if heartbeat is None or record.captured >= heartbeat.captured:
                heartbeat = record
        elif isinstance(record, Footer):
            footer = record  # the journal may have been closed since it was summarized
        if on_record is not None:
            on_record(position, record)
    counts = footer or heartbeat
    alive = journal.alive and footer is None
    damages = [*missing, *reader.damages]
    if reader.unfinished is not None and not alive:
        damages.append(reader.unfinished)
    return JournalReport(
        journal.path,
        journal.header,
        footer,
        alive,
        counts.captured if counts else 0,
        counts.written if counts else 0,
        (counts.dropped if counts else None) or {},
        found,
        damages,
        heartbeat,
        lines,
        last,
        # A footer in the reserved slot leaves them out if they do not fit; the heartbeat may have them.
        (footer.internal_errors if footer else None) or (heartbeat.internal_errors if heartbeat else None),
    )


def sum_internal_errors(reports: Iterable[JournalReport]) -> dict[str, int]:
    """Return the internal errors of the processes that wrote some journals, the most frequent first.

    Each journal of a process has the counts of the whole process, so the largest one of each kind counts.
    """
    by_process: dict[tuple[str, int, str | None], dict[str, int]] = {}
    for report in reports:
        header = report.header
        errors = by_process.setdefault((header.hostname, header.pid, header.process_started_at), {})
        for kind, count in (report.internal_errors or {}).items():
            errors[kind] = max(count, errors.get(kind, 0))
    total: Counter[str] = Counter()
    for errors in by_process.values():
        total.update(errors)
    return dict(total.most_common())


def _missing_beginning(journal: JournalSummary, first: int, damages: list[Damage]) -> list[Damage]:
    """Return the missing beginning of a journal as damage: some servers keep only a journal's end."""
    if any(damage.offset < first for damage in damages):
        return []  # the beginning is there, and its damage is already listed
    return [Damage(journal.path, 0, first, "its beginning is missing, the header with it")]
