"""Copies of journals that were written on another machine: what is taken there, and how it is kept here.

Flows in: on the one side, a journal, growing or done; on the other, pieces of it. Flows out: a file of the
same name in which every record stands at the same position, so that a record is the same one in the journal,
in the copy and in every sink: whoever delivers or reads both has it once.

A copy is taken from where it ends, so that nothing has to be remembered anywhere. A copy of a journal that is
still written holds whole records only, and none of the room that was reserved behind them.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Literal, TypeAlias

import msgspec

from flowprov.journal.format import RESERVED_SLOT, end_of_records, slot_in_use
from flowprov.journal.liveness import expect_writer_until, hold_lock
from flowprov.journal.summary import summarize

JournalState: TypeAlias = Literal["open", "closed", "gone"]

_HEAD = 16 * 1024
_BLOCK = 64 * 1024


class Chunk(msgspec.Struct, frozen=True):
    """Bytes of a journal.

    Attributes
    ----------
    offset
        Where they stand.
    data
        What they are.
    """

    offset: int
    data: bytes


class ReplicaState(msgspec.Struct, frozen=True, array_like=True):
    """What a copy holds.

    Attributes
    ----------
    size
        So many bytes from the beginning.
    slot_digest
        A digest of what stands in the room behind the header, which is written over and over; "" while that
        is empty.
    """

    size: int = 0
    slot_digest: str = ""


def journal_state(path: Path) -> JournalState | None:
    """Tell whether a journal has its footer, is written, or was left by its writer; None: nothing is in it.

    Raises
    ------
    OSError
        If the file cannot be read.
    """
    summary = summarize(path)
    if summary is None:
        return None
    return "closed" if summary.footer is not None else "open" if summary.alive else "gone"


def replica_state(path: Path) -> ReplicaState:
    """Tell what a file holds.

    Raises
    ------
    OSError
        If the file cannot be read.
    """
    with path.open("rb", buffering=0) as file:
        return ReplicaState(os.fstat(file.fileno()).st_size, _digest(_slot(file.fileno())))


def next_chunk(path: Path, held: ReplicaState, limit: int, *, done: bool) -> Chunk | None:
    """Take from a journal what a copy lacks.

    Parameters
    ----------
    path
        The journal.
    held
        What the copy holds.
    limit
        At most so many bytes.
    done
        Nothing will be written to it any more; looked up before.

    Returns
    -------
    Piece or None
        None if the copy holds all that can be taken now.

    Raises
    ------
    OSError
        If the file cannot be read.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if done:
            data = os.pread(
                descriptor, max(0, min(limit, _end_of_records(descriptor) - held.size)), held.size
            )
        else:
            data = _whole_records(os.pread(descriptor, limit, held.size), limit)
        if data:
            return Chunk(held.size, data)
        room = _slot(descriptor)
        if room and held.size >= len(room) and _digest(room) != held.slot_digest:
            return Chunk(0, room)
    finally:
        os.close(descriptor)
    return None


def append_chunks(path: Path, pieces: list[Chunk], awaited: float) -> bool:
    """Add pieces to a copy, which is made if it is missing.

    Parameters
    ----------
    path
        The copy.
    pieces
        What is added, in order. One that does not begin where the copy ends is passed over: another process
        fetches the same journal, and was quicker.
    awaited
        For how many seconds its writer counts as there from now on.

    Returns
    -------
    bool
        False if it was not touched, as somebody else writes it just now: another process that fetches it, or
        its own writer, if this is no copy at all.

    Raises
    ------
    OSError
        If it cannot be written; it holds then what it held before.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        if not hold_lock(descriptor):
            return False
        for piece in pieces:
            size = os.fstat(descriptor).st_size
            if piece.offset == size or (piece.offset == 0 and len(piece.data) <= size):
                _write(descriptor, piece, size)
        expect_writer_until(path, awaited)
    finally:
        os.close(descriptor)
    return True


def _whole_records(data: bytes, limit: int) -> bytes:
    """Cut what is on its way: room not used yet, or filled just now, and a line without its end."""
    room = data.find(b"\0")
    data = data if room < 0 else data[:room]
    end = end_of_records(data)
    # A line longer than a piece is taken in parts: readers wait for its end.
    return data if end == 0 and len(data) == limit else data[:end]


def _end_of_records(descriptor: int) -> int:
    """Find the end of what was written: a writer that was killed left room behind it."""
    end = os.fstat(descriptor).st_size
    while end > 0:
        begin = max(0, end - _BLOCK)
        found = len(os.pread(descriptor, end - begin, begin).rstrip(b"\0"))
        if found:
            return begin + found
        end = begin
    return 0


def _slot(descriptor: int) -> bytes:
    """Give the header and the room behind it, if something stands there."""
    data = os.pread(descriptor, _HEAD, 0)
    return data[: data.find(b"\n") + 1 + RESERVED_SLOT] if slot_in_use(data) else b""


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16] if data else ""


def _write(descriptor: int, piece: Chunk, size: int) -> None:
    try:
        position, rest = piece.offset, memoryview(piece.data)
        while rest:
            written = os.pwrite(descriptor, rest, position)
            position, rest = position + written, rest[written:]
    except OSError:
        os.ftruncate(descriptor, size)  # a full disk: half a piece would be fetched on from its middle
        raise
