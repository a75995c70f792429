"""What servers hold of a journal, as they say it themselves.

Flows in: journals that were read, and the addresses of sinks. Flows out: a :class:`SinkCounts` for each
journal and sink. A server is asked twice: up to where it took the journal, and how many lines it holds. The
first says what waits, the second whether what it took is still there.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path

import msgspec

from flowprov import records
from flowprov.errors import MissingExtraError, SinkError
from flowprov.journal.format import slot_in_use
from flowprov.journal.reader import CHUNK, JournalReader
from flowprov.read.journal_report import JournalReport
from flowprov.settings import redact_uri
from flowprov.sinks.base import LATE_FOOTER, Entry
from flowprov.sinks.registry import open_reader, open_sink, trims


class SinkCounts(msgspec.Struct, frozen=True, kw_only=True):
    """What one sink holds of one journal: ``lines = held + waiting + trimmed + missing``.

    Attributes
    ----------
    sink
        Its address, without credentials.
    lines
        Lines of the journal, control records included.
    held
        Those that the sink holds.
    waiting
        Those that it was not given yet.
    trimmed
        Those that it had, and let go of from the beginning on because ``sinks.redis.maxlen`` says so.
    missing
        Those that it had and does not hold.
    unknown
        Why nothing of this is known; the numbers but ``lines`` are None then.
    """

    sink: str
    lines: int
    held: int | None = None
    waiting: int | None = None
    trimmed: int | None = None
    missing: int | None = None
    unknown: str | None = None


class SinkProbe:
    """A sink that is asked what it holds; one that did not answer is not asked again.

    Parameters
    ----------
    uri
        Its address.
    maxlen
        Entries to which each of its streams is trimmed; None if they are not.

    Raises
    ------
    JournalError
        If the address is of no kind that there is a sink for.

    Attributes
    ----------
    shown
        The address without credentials.
    """

    def __init__(self, uri: str, *, maxlen: int | None = None) -> None:
        self.shown = redact_uri(uri)
        self._maxlen = maxlen if trims(uri) else None
        self._unknown: str | None = None
        try:
            self._sink, self._source = open_sink(uri), open_reader(uri)
        except MissingExtraError as error:
            self._unknown = str(error)

    def count(self, report: JournalReport) -> SinkCounts:
        """Ask what the sink holds of a journal that was read."""
        if self._unknown is None:
            try:
                return self._compare(report)
            except SinkError as error:
                self._unknown = str(error)
                self.close()
        return SinkCounts(sink=self.shown, lines=report.lines, unknown=self._unknown)

    def close(self) -> None:
        """Let go of the connections."""
        if hasattr(self, "_sink"):
            self._sink.close()
            self._source.close()

    def _compare(self, report: JournalReport) -> SinkCounts:
        lines, journal_id = report.lines, report.header.journal_id
        reached = self._sink.resume_after(report.header)
        if reached is None:
            return self._delivery(lines, waiting=lines)
        count = self._source.count(journal_id)
        waiting = _behind(report, reached)
        others = 0  # entries that the journal does not hold, or not twice
        room = _in_slot(report.path)
        if room is not None and room.position <= reached:
            there = self._line_at(journal_id, room.position)
            given_late = reached >= LATE_FOOTER
            if isinstance(records.decode(room.line), records.Footer):
                # Delivered behind everything else, or not yet; an earlier heartbeat may stand in its place.
                others = int(there is not None and (given_late or there != room.line))
                waiting += int(not given_late and there != room.line)
            elif there is None:
                lines -= 1  # the next heartbeat takes its place, and the footer the last one's
        gone = max(0, lines - waiting + others - count)
        trimmed = min(gone, self._trimmed(report, count)) if gone else 0
        return self._delivery(lines, waiting=waiting, trimmed=trimmed, missing=gone - trimmed)

    def _delivery(self, lines: int, *, waiting: int, trimmed: int = 0, missing: int = 0) -> SinkCounts:
        return SinkCounts(
            sink=self.shown,
            lines=lines,
            held=lines - waiting - trimmed - missing,
            waiting=waiting,
            trimmed=trimmed,
            missing=missing,
        )

    def _line_at(self, journal_id: str, position: int) -> bytes | None:
        entry = next(iter(self._source.entries(journal_id, position - 1)), None)
        return entry.line if entry is not None and entry.position == position else None

    def _trimmed(self, report: JournalReport, count: int) -> int:
        """Count the lines before the first that is held, if the stream is as long as it may be."""
        if self._maxlen is None or count < self._maxlen:
            return 0
        first = next(iter(self._source.entries(report.header.journal_id)), None)
        return sum(1 for _ in takewhile(lambda at: first is None or at < first.position, _lines(report.path)))


def _behind(report: JournalReport, reached: int) -> int:
    """Count the lines behind a position; those that came since the journal was read are not reckoned with."""
    last = report.last
    if last is None or reached >= last:
        return 0
    return sum(1 for at in takewhile(lambda at: at <= last, _lines(report.path, reached)) if at > reached)


def _lines(path: Path, position: int = 0) -> Iterator[int]:
    """Give the positions of lines that are records: damaged ones are not delivered."""
    reader = JournalReader(path, position, records.decode, missing_ok=True)
    return (at for at, _ in reader.read())


def _in_slot(path: Path) -> Entry | None:
    """Give the line that stands in the room behind the header, if it is a record."""
    try:
        with path.open("rb") as file:
            data = file.read(CHUNK)
    except FileNotFoundError:
        return None
    if not slot_in_use(data):
        return None
    position = data.find(b"\n") + 1
    line = data[position : data.find(b"\n", position)]
    try:
        records.decode(line)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
    return Entry(position, line)
