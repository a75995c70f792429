"""The summary of a journal, from its beginning and its end, without reading all of it.

Flows in: one file. Flows out: its campaign and process, whether its writer is still there, and when it last
wrote. A buffer may hold thousands of journals, and most belong to another campaign than the one asked for.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

import msgspec

from flowprov.journal import liveness
from flowprov.journal.format import end_of_records, is_padding, lines
from flowprov.journal.reader import header_from_path, read_head
from flowprov.records import Campaign, Footer, Header, Record, decode

_BLOCK = 64 * 1024
_LARGEST_TAIL = 16 << 20  # many times the longest record; a longer tail without a record is damage
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
        head = read_head(path)
        last_at, footer = _read_tail(path)
    except FileNotFoundError:
        return None
    if head.header is None and not last_at:
        return None
    header = head.header or header_from_path(path)
    footer = head.footer or footer
    # The latest heartbeat of a journal that can grow no more lies in the reserved slot.
    last_at = max(last_at, header.started_at, head.heartbeat.at if head.heartbeat is not None else 0)
    alive = footer is None and not liveness.writer_is_gone(path, header, last_at)
    lost = head.header is None
    return JournalSummary(path, header, footer, head.campaign, alive, last_at, lost)


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
    return max(map(time_of, tail), default=0), next((r for r in tail if isinstance(r, Footer)), None)


def _last_records(path: Path) -> list[tuple[int, Record]]:
    """Return the last records that have a time, with their positions."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        end = os.fstat(descriptor).st_size
        tail = b""
        while end > 0 and len(tail) < _LARGEST_TAIL:
            begin = max(0, end - _BLOCK)
            tail = os.pread(descriptor, end - begin, begin) + tail
            if is_padding(tail) or not tail.rstrip(b"\0 \n"):
                tail = b""  # padding and nothing else
            elif last := _with_times(tail, begin):
                return last
            end = begin
    finally:
        os.close(descriptor)
    return []


def _with_times(tail: bytes, begin: int) -> list[tuple[int, Record]]:
    """Decode the last lines and keep the records that have a time; the cut first line does not decode."""
    kept = []
    for offset, line in list(lines(tail[: end_of_records(tail)]))[-_LAST_LINES:]:
        try:
            record = decode(line)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            continue
        if time_of(record):
            kept.append((begin + offset, record))
    return kept


def time_of(record: Record) -> int:
    """Return the latest time that a record holds, in nanoseconds; 0 if it holds none."""
    for field in ("ended_at", "at", "started_at"):
        if (value := getattr(record, field, None)) is not None:
            return int(value)
    return 0
