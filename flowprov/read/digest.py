"""The digest of a journal that changes no more: what answers need of it, so that it need not be read again.

Flows in: one journal. Flows out: its digest, which a Parquet file beside the journal keeps.

It was closed, or its process is gone for sure. A digest says which journal it is of: how long that was, and
with which last line. Where the two do not agree, the journal has grown, and the digest counts for nothing.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from flowprov.journal.liveness import is_gone_for_sure
from flowprov.journal.reader import JournalReader
from flowprov.journal.summary import JournalSummary
from flowprov.read.answers.extract import NOTHING, Counts, Extract, Wanted
from flowprov.read.answers.extract_builder import ExtractBuilder, finish
from flowprov.read.answers.failed_tasks import FailedNames
from flowprov.read.decoding import decode_restored
from flowprov.read.journal_report import JournalReport, report_on
from flowprov.read.open_records import OpenRecordFilter
from flowprov.read.references import JournalNames, JournalReferences, TaskList, TaskReferences
from flowprov.read.rows import fold_campaign
from flowprov.read.task_ids import TaskIds
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
    prefix_of,
)
from flowprov.regular_files import end_of_data, open_regular

VERSION = 3  # to be raised whenever the same journal gives another digest
_MAX_FOOTER = 64 * 1024
_MAX_PADDING = 64 << 20  # bytes behind the last line of a mapped file
_MAX_DIGEST = 1 << 30  # bytes
_COMPRESSION = 6
_WORKFLOW = prefix_of(Workflow)


class Digest(msgspec.Struct, frozen=True, kw_only=True):
    """What answers need of a closed journal.

    Attributes
    ----------
    version
        That of this form.
    length, end, padding
        How long the journal was; its last line, which is its footer if it was closed; and how many bytes
        stand behind that.
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
        Whether its tasks can be read one by one: none is of Dask, none has an id of another process, and no
        workflow has several attempts in it.
    unusual
        How many lines the Parquet file holds of tasks that are no columns there.
    telemetry
        Whether it holds samples, or readings of tasks.
    counts, elsewhere, failed, asked, kept
        Its extract, with the lines of the records.
    """

    version: int = VERSION
    length: int
    end: str
    padding: int = 0
    header: Header
    footer: Footer | None
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
    failed: FailedNames
    asked: Wanted
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
            written = self.length - self.padding
            found = os.pread(descriptor, len(end) + 1, written - len(end)) if is_as_long else b""
            return found == end + bytes(min(self.padding, 1))
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
        counts = footer or heartbeat
        return JournalReport(
            path=journal.path,
            header=journal.header,
            footer=footer,
            alive=False,
            captured=counts.captured if counts else 0,
            written=counts.written if counts else 0,
            dropped=(counts.dropped if counts else None) or {},
            found=self.found,
            damages=[],
            heartbeat=heartbeat,
            lines=self.lines,
            last=self.last,
            internal_errors=(footer.internal_errors if footer else None)
            or (heartbeat.internal_errors if heartbeat else None),
        )

    def records(self) -> Iterator[Record]:
        """Yield the records of the extract."""
        return map(decode_restored, map(bytes, self.kept))

    def extract(self) -> Extract:
        """Return the extract of the journal."""
        records = list(enumerate(self.records()))
        left_out = self.without([record for _, record in records])
        return Extract(
            records, self.counts, self.elsewhere, set(), self.failed, self.asked, left_out=left_out
        )

    def without(self, records: Iterable[Record]) -> TaskIds:
        """Return the numbers of the tasks of the journal that are not among some of its records."""
        recorded, kept = TaskIds(), TaskIds()
        recorded.add_numbers("", self.recorded.numbers)
        for record in records:
            if isinstance(record, Task):
                kept.add(self.header.full_id(record.task_id))
        others = TaskIds()
        others.add_numbers("", kept.numbers(self.header.journal_id))
        return recorded.without(others)

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


def create_digest(journal: JournalSummary, wanted: Wanted = NOTHING) -> tuple[Digest, Extract] | None:
    """Read a journal that never changes any more, and return its digest and its extract.

    Parameters
    ----------
    journal
        The journal.
    wanted
        What extracts of other journals name of it.

    Returns
    -------
    tuple or None
        None if the journal is damaged, or may grow: then it must be read each time.
    """
    length = journal.path.stat().st_size
    reading = _DigestParts(journal, wanted)
    report = report_on(journal, reading.add)
    end, padding = _last_line(journal.path, length)
    if report.footer is None:
        is_whole = bool(end) and is_gone_for_sure(journal.path, journal.header)
    else:
        is_whole = not padding and _is(end, report.footer)
    if report.damages or journal.header_lost or not is_whole:
        return None
    extract = reading.extract()
    digest = Digest(
        length=length,
        end=end.decode(),
        padding=padding,
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
        failed=extract.failed,
        asked=extract.asked,
        kept=list(map(msgspec.Raw, lines_at(journal, [position for position, _ in extract.records]))),
    )
    return digest, extract


class _DigestParts:
    """Collects what a digest holds, in one reading of a journal, as a rule."""

    def __init__(self, journal: JournalSummary, wanted: Wanted) -> None:
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


def _last_line(path: Path, length: int) -> tuple[bytes, int]:
    """Return the last line of a file, and how many NUL bytes stand behind it.

    The line is empty if the file does not end with a line, or with a very long one.
    """
    descriptor = open_regular(path)
    try:
        end = min(length, end_of_data(descriptor, length))
        floor = end - _MAX_PADDING
        while end > max(floor, 0):
            begin = max(0, end - _MAX_FOOTER)
            data = os.pread(descriptor, end - begin, begin)
            if written := data.rstrip(b"\0"):
                end = begin + len(written)
                break
            end = begin
        data = os.pread(descriptor, min(_MAX_FOOTER, end), max(0, end - _MAX_FOOTER))
    finally:
        os.close(descriptor)
    line = data[:-1].rpartition(b"\n")[2] if data.endswith(b"\n") else b""
    return line, length - end


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
