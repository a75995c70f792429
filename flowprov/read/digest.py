"""The digest of a closed journal: what answers need of it, so that it need not be read again.

Flows in: one journal. Flows out: its digest, which a Parquet file beside the journal keeps.

A digest says which journal it is of: how long that was, and with which last line. Where the two do not agree,
the journal has grown, and the digest counts for nothing.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from flowprov.journal.reader import JournalReader
from flowprov.journal.summary import JournalSummary
from flowprov.read.answers.extract import Counts, Extract, ExtractBuilder, finish
from flowprov.read.decoding import decode_restored, prefix_of
from flowprov.read.journal_report import JournalReport, report_on
from flowprov.read.open_records import OpenRecordFilter
from flowprov.read.references import JournalNames, JournalReferences, TaskList, TaskReferences
from flowprov.read.rows import fold_campaign
from flowprov.records import (
    NOT_A_RECORD,
    Campaign,
    DaskWorker,
    Footer,
    Header,
    Heartbeat,
    LocalId,
    Participant,
    Record,
    Sample,
    Task,
    Workflow,
    decode,
)
from flowprov.regular_files import open_regular

VERSION = 1  # to be raised whenever the same journal gives another digest
_MAX_FOOTER = 64 * 1024
_MAX_DIGEST = 1 << 30  # bytes
_COMPRESSION = 6
_WORKFLOW = prefix_of(Workflow)


class Digest(msgspec.Struct, frozen=True, kw_only=True):
    """What answers need of a closed journal.

    Attributes
    ----------
    version
        That of this form.
    length, end
        How long the journal was, and its last line: its footer.
    header, footer, campaign, last_at
        As in its summary.
    found, lines, last, heartbeat
        As in its report; it was not damaged.
    names, processes
        What its records name: workflows, journals, Dask workers and children.
    recorded, named
        The tasks that it records, and those that are named as parents.
    open_tasks
        Tasks with a start and without an end, as the journal names them.
    plain
        Whether its tasks can be read one by one: none is of Dask, none has an id of elsewhere, and no
        workflow has several attempts in it.
    unusual
        How many lines the Parquet file holds of tasks that are no columns there.
    telemetry
        Whether it holds samples, or readings of tasks.
    counts, elsewhere, asked, kept
        Its extract, with the lines of the records.
    """

    version: int = VERSION
    length: int
    end: str
    header: Header
    footer: Footer
    campaign: Campaign | None
    last_at: int
    found: int
    lines: int
    last: int | None
    heartbeat: Heartbeat | None
    names: JournalNames
    processes: list[DaskWorker | Participant]
    recorded: TaskList
    named: TaskList
    open_tasks: list[LocalId]
    plain: bool
    unusual: int = 0
    telemetry: bool
    counts: Counts
    elsewhere: set[str]
    asked: frozenset[str]
    kept: list[msgspec.Raw]

    def fits(self, path: Path) -> bool:
        """Whether this is the digest of a journal as it is now."""
        if self.version != VERSION:
            return False
        end = self.end.encode() + b"\n"
        try:
            descriptor = open_regular(path)
        except OSError:  # it went away
            return False
        try:
            is_as_long = os.fstat(descriptor).st_size == self.length
            return is_as_long and os.pread(descriptor, len(end), self.length - len(end)) == end
        except OSError:
            return False
        finally:
            os.close(descriptor)

    def summary(self, path: Path) -> JournalSummary:
        """Return the summary of the journal, which fits."""
        return JournalSummary(
            path, self.header, self.footer, self.campaign, alive=False, last_at=self.last_at
        )

    def report(self, journal: JournalSummary) -> JournalReport:
        """Return the report on the journal."""
        footer, heartbeat = self.footer, self.heartbeat
        return JournalReport(
            path=journal.path,
            header=journal.header,
            footer=footer,
            alive=False,
            captured=footer.captured,
            written=footer.written,
            dropped=footer.dropped or {},
            found=self.found,
            damages=[],
            heartbeat=heartbeat,
            lines=self.lines,
            last=self.last,
            internal_errors=footer.internal_errors or (heartbeat.internal_errors if heartbeat else None),
        )

    def records(self) -> Iterator[Record]:
        """Yield the records of the extract."""
        return map(decode_restored, map(bytes, self.kept))

    def extract(self) -> Extract:
        """Return the extract of the journal."""
        return Extract(list(enumerate(self.records())), self.counts, self.elsewhere, set(), self.asked)

    def workflows(self) -> Iterator[bytes]:
        """Yield the lines of workflows."""
        return (line for line in map(bytes, self.kept) if line.startswith(_WORKFLOW))

    def open_filter(self) -> OpenRecordFilter:
        """Return what may be open at the end of the journal."""
        kept = OpenRecordFilter()
        for line in self.workflows():
            kept.add(0, decode_restored(line))
        kept.task_ids.update(self.open_tasks)
        return kept


_decoder = msgspec.json.Decoder(Digest)


def encode_digest(digest: Digest) -> bytes:
    """Return a digest as bytes: compressed JSON, as it holds what was logged line by line."""
    return zlib.compress(msgspec.json.encode(digest), _COMPRESSION)


def decode_digest(data: bytes) -> Digest | None:
    """Return the digest that some bytes hold; None if they hold none that this version knows."""
    try:
        inflating = zlib.decompressobj()
        text = inflating.decompress(data, _MAX_DIGEST)
        return _decoder.decode(text) if inflating.eof else None
    except (zlib.error, msgspec.MsgspecError, ValueError, RecursionError):  # of another version, or damaged
        return None


def create_digest(journal: JournalSummary, wanted: Iterable[str] = ()) -> tuple[Digest, Extract] | None:
    """Read a closed journal, and return its digest and its extract.

    Parameters
    ----------
    journal
        The journal.
    wanted
        Its tasks that extracts of other journals name.

    Returns
    -------
    tuple or None
        None if the journal is damaged, or is not closed: then it must be read each time.
    """
    length = journal.path.stat().st_size
    reading = _DigestParts(journal, wanted)
    report = report_on(journal, reading.add)
    end = _last_line(journal.path, length)
    if report.damages or report.footer is None or journal.header_lost or not _is(end, report.footer):
        return None
    extract = reading.extract()
    digest = Digest(
        length=length,
        end=end.decode(),
        header=journal.header,
        footer=report.footer,
        campaign=journal.campaign,
        last_at=journal.last_at,
        found=report.found,
        lines=report.lines,
        last=report.last,
        heartbeat=report.heartbeat,
        names=reading.references.names,
        processes=reading.processes,
        recorded=TaskList.of(journal.header.journal_id, reading.tasks.recorded),
        named=TaskList.of(journal.header.journal_id, reading.tasks.parents_elsewhere()),
        open_tasks=list(reading.open_filter.task_ids),
        plain=not (reading.references.names.of_dask or extract.foreign or reading.has_attempts()),
        telemetry=reading.telemetry,
        counts=extract.counts,
        elsewhere=extract.elsewhere,
        asked=extract.asked,
        kept=list(map(msgspec.Raw, lines_at(journal, [position for position, _ in extract.records]))),
    )
    return digest, extract


class _DigestParts:
    """Collects what a digest holds, in one reading of a journal, as a rule."""

    def __init__(self, journal: JournalSummary, wanted: Iterable[str]) -> None:
        self._journal = journal
        self._builder = ExtractBuilder(journal.header, wanted)
        self.tasks = TaskReferences()
        self.references = JournalReferences(journal.header, self.tasks)
        self.open_filter = OpenRecordFilter()
        self.processes: list[DaskWorker | Participant] = []
        self.telemetry = False

    def add(self, position: int, record: Record) -> None:
        """Add the next record."""
        self.references.add(record)
        self.open_filter.add(position, record)
        self._builder.add(position, record)
        if isinstance(record, Task):
            self.telemetry |= record.telemetry_at_start is not None or record.telemetry_at_end is not None
        elif isinstance(record, Sample):
            self.telemetry = True
        elif isinstance(record, (DaskWorker, Participant)):
            self.processes.append(record)

    def extract(self) -> Extract:
        """Return the extract."""
        return finish(self._builder, self._journal)

    def has_attempts(self) -> bool:
        """Whether a workflow has several attempts in this journal."""
        folded = fold_campaign([(self._journal, self.open_filter.workflows)])
        return any(index.last > 1 for index in folded.attempts.values())


def _last_line(path: Path, length: int) -> bytes:
    """Return the last line of a file; empty if it does not end with a line, or with a very long one."""
    descriptor = open_regular(path)
    try:
        data = os.pread(descriptor, _MAX_FOOTER, max(0, length - _MAX_FOOTER))
    finally:
        os.close(descriptor)
    return data[:-1].rpartition(b"\n")[2] if data.endswith(b"\n") else b""


def _is(line: bytes, footer: Footer) -> bool:
    try:
        return decode(line) == footer
    except NOT_A_RECORD:
        return False


def lines_at(journal: JournalSummary, positions: Sequence[int]) -> list[bytes]:
    """Return the lines of a journal at some positions."""
    lines = dict.fromkeys(positions, b"")
    wanted: Any = lines.keys()
    for position, line in JournalReader(journal.path, 0, bytes).read():
        if position in wanted:
            lines[position] = line
    return list(lines.values())
