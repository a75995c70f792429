"""Ask sinks how much they hold of a journal.

Flows in: reports on journals, and the URIs of sinks. Flows out: a :class:`SinkCounts` for each journal and
sink. A server answers two questions: up to which position it took the journal, and how many lines it holds.
The first answer tells which lines still wait, the second whether the server lost lines that it took. MLflow
holds runs in place of lines; these are counted for a whole campaign.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path
from typing import Protocol

import msgspec

from flowprov import records
from flowprov.errors import MissingExtraError, SinkError
from flowprov.journal.format import slot_in_use
from flowprov.journal.reader import BLOCK_SIZE, JournalReader
from flowprov.read.journal_report import JournalReport
from flowprov.regular_files import read_at_once
from flowprov.settings import redact_uri
from flowprov.sinks.base import LATE_FOOTER, Entry
from flowprov.sinks.registry import open_reader, open_sink, trims


class SinkCounts(msgspec.Struct, frozen=True, kw_only=True):
    """What one sink holds of one journal: ``lines = held + waiting + trimmed + missing``.

    Attributes
    ----------
    sink
        The URI of the sink, without credentials.
    lines
        All lines of the journal, control records included.
    held
        Lines that the sink holds.
    waiting
        Lines that were not delivered yet.
    trimmed
        Lines that the sink had and removed from the beginning, as ``sinks.redis.maxlen`` demands.
    missing
        Lines that the sink had and does not hold any more.
    unknown
        Why the counts are unknown; all of them but ``lines`` are None then. None if they are known.
    """

    sink: str
    lines: int
    held: int | None = None
    waiting: int | None = None
    trimmed: int | None = None
    missing: int | None = None
    unknown: str | None = None


class RunCounts(msgspec.Struct, frozen=True, kw_only=True):
    """What a server that holds runs, and no lines, has of a campaign: ``runs = held + waiting + deleted``.

    Attributes
    ----------
    sink
        The URI of the server, without credentials.
    runs
        All runs of the campaign.
    held
        Runs that are there as they are now.
    waiting
        Runs that are not there yet, or of which something new is known.
    deleted
        Runs that a person deleted there; they stay deleted.
    unknown
        Why the counts are unknown; all of them but ``runs`` are None then. None if they are known.
    """

    sink: str
    runs: int
    held: int | None = None
    waiting: int | None = None
    deleted: int | None = None
    unknown: str | None = None


class RunProbe(Protocol):
    """Asks a server that holds runs; who knows it implements this."""

    def count(self, source: str, campaign_id: str) -> RunCounts:
        """Return what the server holds of a campaign in a buffer."""


class SinkProbe:
    """Asks one sink how much it holds of journals; a sink that failed once is not asked again.

    Parameters
    ----------
    uri
        The URI of the sink.
    maxlen
        The number of entries to which each of its streams is trimmed; None if they are not.

    Raises
    ------
    JournalError
        If there is no sink for this kind of URI.

    Attributes
    ----------
    display_uri
        The URI without credentials.
    """

    def __init__(self, uri: str, *, maxlen: int | None = None) -> None:
        self.display_uri = redact_uri(uri)
        self._maxlen = maxlen if trims(uri) else None
        self._unknown: str | None = None
        try:
            self._sink, self._reader = open_sink(uri), open_reader(uri)
        except MissingExtraError as error:
            self._unknown = str(error)

    def count(self, report: JournalReport) -> SinkCounts:
        """Return what the sink holds of a journal."""
        if self._unknown is None:
            try:
                return self._compare(report)
            except SinkError as error:
                self._unknown = str(error)
                self.close()
        return SinkCounts(sink=self.display_uri, lines=report.lines, unknown=self._unknown)

    def close(self) -> None:
        """Close the connections."""
        if hasattr(self, "_sink"):
            self._sink.close()
            self._reader.close()

    def _compare(self, report: JournalReport) -> SinkCounts:
        lines, journal_id = report.lines, report.header.journal_id
        delivered_to = self._sink.resume_after(report.header)
        if delivered_to is None:
            return self._counts(lines, waiting=lines)
        count = self._reader.count(journal_id)
        waiting = _count_waiting(report, delivered_to)
        extra = 0  # entries of the server that the journal no longer holds, or holds only once
        slot = _entry_in_slot(report.path)
        if slot is not None and slot.position <= delivered_to:
            remote_line = self._line_at(journal_id, slot.position)
            has_late_footer = delivered_to >= LATE_FOOTER
            if isinstance(records.decode(slot.line), records.Footer):
                # The footer is delivered after all other lines. At its own position the server may hold the
                # heartbeat that stood in the slot before it.
                extra = int(remote_line is not None and (has_late_footer or remote_line != slot.line))
                waiting += int(not has_late_footer and remote_line != slot.line)
            elif remote_line is None:
                lines -= 1  # the server need not have it: the next heartbeat or the footer replaces it
        lost = max(0, lines - waiting + extra - count)
        trimmed = min(lost, self._count_trimmed(report, count)) if lost else 0
        return self._counts(lines, waiting=waiting, trimmed=trimmed, missing=lost - trimmed)

    def _counts(self, lines: int, *, waiting: int, trimmed: int = 0, missing: int = 0) -> SinkCounts:
        return SinkCounts(
            sink=self.display_uri,
            lines=lines,
            held=lines - waiting - trimmed - missing,
            waiting=waiting,
            trimmed=trimmed,
            missing=missing,
        )

    def _line_at(self, journal_id: str, position: int) -> bytes | None:
        entry = next(iter(self._reader.entries(journal_id, position - 1)), None)
        return entry.line if entry is not None and entry.position == position else None

    def _count_trimmed(self, report: JournalReport, count: int) -> int:
        """Return how many lines stand before the first that is held, if the stream has its full length."""
        if self._maxlen is None or count < self._maxlen:
            return 0
        first = next(iter(self._reader.entries(report.header.journal_id)), None)
        positions = _line_positions(report.path)
        return sum(1 for _ in takewhile(lambda at: first is None or at < first.position, positions))


def _count_waiting(report: JournalReport, delivered_to: int) -> int:
    """Return how many lines stand behind a position, without those that came after the journal was read."""
    last = report.last
    if last is None or delivered_to >= last:
        return 0
    positions = takewhile(lambda at: at <= last, _line_positions(report.path, delivered_to))
    return sum(1 for at in positions if at > delivered_to)


def _line_positions(path: Path, position: int = 0) -> Iterator[int]:
    """Return an iterator over the positions of lines that are records: damaged lines are not delivered."""
    reader = JournalReader(path, position, records.decode, missing_ok=True)
    return (at for at, _ in reader.read())


def _entry_in_slot(path: Path) -> Entry | None:
    """Return the line in the reserved slot behind the header; None if there is no record in it."""
    try:
        data = read_at_once(path, BLOCK_SIZE)
    except FileNotFoundError:
        return None
    if not slot_in_use(data):
        return None
    position = data.find(b"\n") + 1
    line = data[position : data.find(b"\n", position)]
    try:
        records.decode(line)
    except records.NOT_A_RECORD:
        return None
    return Entry(position, line)
