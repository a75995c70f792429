"""The summary of a journal, from its beginning and its end, without reading all of it.

Flows in: one file. Flows out: its campaign and process, whether its writer is still there, and when it last
wrote. A buffer may hold thousands of journals, and most belong to another campaign than the one asked for.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from flowprov.journal import liveness
from flowprov.journal.format import end_of_records, is_padding
from flowprov.journal.reader import MAX_LINE, header_from_path, read_head
from flowprov.records import NOT_A_RECORD, Campaign, Footer, Header, Record, decode
from flowprov.regular_files import end_of_data, open_regular

_BLOCK = 64 * 1024
_TAIL = 8 * 1024  # holds the last records, as a rule
_LARGEST_PADDING = 16 << 20  # more than a writer reserves
_BLANK = b"\0 \t\n\r\v\f"
_LAST_LINES = 16  # tasks that end at the same time are written one after the other, the outermost last


class JournalSummary(NamedTuple):
    """The summary of a journal.

    Attributes
    ----------
    path
        The journal.
    header
        Its header; created from the file's path where it was lost.
    footer
        Its footer; None if it was not closed.
    campaign
        The record that names the campaign, if it lies at the beginning.
    alive
        Whether its writer is still there.
    last_at
        Wall clock time of its last record, in nanoseconds.
    header_lost
        Whether the header was created from the path: then its campaign id is the name of a folder.
    """

    path: Path
    header: Header
    footer: Footer | None
    campaign: Campaign | None
    alive: bool
    last_at: int
    header_lost: bool = False


def summarize(path: Path) -> JournalSummary | None:
    """Create the summary of a journal from its beginning and its end.

    Returns
    -------
    JournalSummary or None
        None if the file is gone or holds no record yet.

    Raises
    ------
    OSError
        If the file cannot be read.

    Notes
    -----
    If the summary says that the writer is gone, a reader that begins afterwards sees all that it ever wrote.
    """
    try:
        before = _mark_of(path)
        head = read_head(path)
        last_at, footer = _read_tail(path)
    except FileNotFoundError:
        return None
    if head.header is None and not last_at:
        return None
    header = head.header or header_from_path(path)
    footer = footer or head.footer  # behind the first one, another one may follow
    is_gone = footer is None and liveness.writer_is_gone(path, header, last_at)
    if is_gone:  # it may have written its footer since, and left the file for a next one
        with contextlib.suppress(FileNotFoundError):
            if _mark_of(path) != before:
                last_at, footer = _read_tail(path)
    # The latest heartbeat of a journal that can grow no more lies in the reserved slot.
    last_at = max(last_at, header.started_at, head.heartbeat.at if head.heartbeat is not None else 0)
    alive, lost = footer is None and not is_gone, head.header is None
    return JournalSummary(path, header, footer, head.campaign, alive, last_at, lost)


def _mark_of(path: Path) -> tuple[int, int]:
    """Return what differs once somebody has written to a file: its size and its time of change."""
    status = path.stat()
    return status.st_size, status.st_mtime_ns


def last_position(path: Path) -> int | None:
    """Return the position of the last record that has a time; None if there is none.

    Raises
    ------
    OSError
        If the file cannot be read.
    """
    tail = _last_records(path)
    return tail[-1][0] if tail else None


def _read_tail(path: Path) -> tuple[int, Footer | None]:
    """Return the latest time of the last records, 0 if there is none, and the footer if it is one of them."""
    tail = [record for _, record in _last_records(path)]
    footers = [record for record in tail if isinstance(record, Footer)]
    return max(map(time_of, tail), default=0), footers[-1] if footers else None


def _last_records(path: Path) -> list[tuple[int, Record]]:
    """Return the last records that have a time, with their positions."""
    descriptor = open_regular(path)
    try:
        end = _end_of_written(descriptor, os.fstat(descriptor).st_size)
        # Each time a larger part of the end is looked at, so that a long last line is not read again and
        # again. An end that is longer than any line, without a record in it, is damage.
        size = _TAIL
        while True:
            begin = max(0, end - size)
            if last := _with_times(os.pread(descriptor, end - begin, begin), begin):
                return last
            if begin == 0 or size > MAX_LINE:
                return []
            size *= 8
    finally:
        os.close(descriptor)


def _end_of_written(descriptor: int, size: int) -> int:
    """Return the end of what was written, before the padding at the end of a file; 0 if there is no end."""
    end = size
    looked_at, in_hole = 0, False
    while end > 0:
        begin = max(0, end - (_BLOCK if looked_at else _TAIL))
        block = os.pread(descriptor, end - begin, begin)
        if not is_padding(block) and (written := block.rstrip(_BLANK)):
            newline = block.find(b"\n", len(written))
            # The newline of the last record may be the first byte behind this block.
            return begin + (newline if newline >= 0 else len(written)) + 1
        end, looked_at = begin, looked_at + len(block)
        if looked_at > _LARGEST_PADDING:
            if in_hole:
                return 0
            end, looked_at, in_hole = min(end, end_of_data(descriptor, size)), 0, True
    return 0


def _with_times(tail: bytes, begin: int) -> list[tuple[int, Record]]:
    """Decode the last lines and keep the records that have a time; the cut first line does not decode."""
    kept: list[tuple[int, Record]] = []
    for offset, line in _last_lines(tail):
        try:
            record = decode(line)
        except NOT_A_RECORD:
            continue
        if time_of(record):
            kept.append((begin + offset, record))
        if isinstance(record, Footer):  # a record of the end: nothing before it is later
            break
    return kept[::-1]


def _last_lines(tail: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the last complete lines with their offsets, the last one first; no others are looked at."""
    rest = tail[: end_of_records(tail)]
    for _ in range(_LAST_LINES):
        rest = rest.rstrip(_BLANK)
        if not rest:
            return
        begin = max(rest.rfind(b"\n"), rest.rfind(b"\0")) + 1
        yield begin, rest[begin:]
        rest = rest[:begin]


def time_of(record: Record) -> int:
    """Return the latest time that a record holds, in nanoseconds; 0 if it holds none."""
    for field in ("ended_at", "at", "started_at"):
        if (value := getattr(record, field, None)) is not None:
            return int(value)
    return 0
