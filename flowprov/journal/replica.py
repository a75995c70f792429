"""Replicas: copies of journals that another machine writes.

Flows in: on the other machine, a journal, growing or done; here, chunks of it. Flows out: chunks there, and
here a file of the same name in which every record has the same position. So a record is the same one in the
journal, in the replica and in every sink: whoever delivers or reads both has it once.

A replica grows from its end, so no process has to remember how far it is. A replica of a growing journal
holds whole records only, and none of the padding behind them.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path
from typing import Literal, TypeAlias

import msgspec

from flowprov.journal.folders import PRIVATE, check_folders, create_folder, open_no_link, set_mode
from flowprov.journal.format import RESERVED_SLOT, end_of_records, slot_in_use
from flowprov.journal.liveness import (
    expect_writer_until,
    finish_replica,
    hold_lock,
    mark_replica,
    may_grow,
)
from flowprov.journal.summary import summarize
from flowprov.records import Header, decode
from flowprov.regular_files import open_regular

JournalState: TypeAlias = Literal["open", "closed", "gone"]

_HEAD = 16 * 1024
_BLOCK = 64 * 1024


class Chunk(msgspec.Struct, frozen=True):
    """A stretch of bytes of a journal.

    Attributes
    ----------
    offset
        Its offset in the journal.
    data
        Its bytes.
    """

    offset: int
    data: bytes


class ReplicaState(msgspec.Struct, frozen=True, array_like=True):
    """How much of a journal its replica holds.

    Attributes
    ----------
    size
        Number of bytes, from the beginning of the journal.
    slot_digest
        Digest of the reserved slot, which the writer overwrites; "" while the slot is empty.
    """

    size: int = 0
    slot_digest: str = ""


def journal_state(path: Path) -> JournalState | None:
    """Return whether a journal is closed by a footer, open, or its writer is gone; None if it is empty.

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
    """Return how much of its journal a replica holds.

    Raises
    ------
    OSError
        If the file cannot be read.
    """
    descriptor = open_regular(path)
    try:
        return ReplicaState(os.fstat(descriptor).st_size, _digest(_read_slot(descriptor)))
    finally:
        os.close(descriptor)


def next_chunk(path: Path, replica: ReplicaState, limit: int, *, done: bool) -> Chunk | None:
    """Read from a journal the next chunk that its replica lacks.

    Parameters
    ----------
    path
        The journal.
    replica
        How much the replica holds.
    limit
        Largest number of bytes of the chunk.
    done
        The journal will not grow any more; the caller must find this out beforehand.

    Returns
    -------
    Chunk or None
        None if the replica holds all that can be copied now.

    Raises
    ------
    OSError
        If the file cannot be read.
    """
    descriptor = open_regular(path)
    try:
        if done:
            data = os.pread(
                descriptor, max(0, min(limit, _end_of_records(descriptor) - replica.size)), replica.size
            )
        else:
            data = _whole_records(os.pread(descriptor, limit, replica.size), limit)
        if data:
            return Chunk(replica.size, data)
        slot = _read_slot(descriptor)
        if slot and replica.size >= len(slot) and _digest(slot) != replica.slot_digest:
            return Chunk(0, slot)
    finally:
        os.close(descriptor)
    return None


def append_chunks(path: Path, chunks: list[Chunk], expected_s: float, mode: int = PRIVATE) -> bool:
    """Append chunks to a replica; create it if it is missing.

    Parameters
    ----------
    path
        The replica.
    chunks
        The chunks, in order. One that does not begin at the end of the replica is skipped: another process
        that fetches the same journal has added it already.
    expected_s
        Seconds from now during which the writer of the journal counts as there.
    mode
        The mode of a new file.

    Returns
    -------
    bool
        False if the file was not touched: another process holds its lock, as it fetches the same journal; or
        it is no replica, or a finished one. What another machine sends can only add.

    Raises
    ------
    OSError
        If the file cannot be written; its content is then the same as before.
    """
    descriptor = _open(path, mode)
    if descriptor is None:
        return False
    try:
        if not hold_lock(descriptor):
            return False
        if _is_finished(path):
            finish_replica(path)
            return False
        for chunk in chunks:
            size = os.fstat(descriptor).st_size
            if chunk.offset == size or (chunk.offset == 0 and _replaces_slot(descriptor, chunk.data)):
                _write(descriptor, chunk, size)
        if _is_finished(path):
            finish_replica(path)
        else:
            expect_writer_until(path, expected_s)
    finally:
        os.close(descriptor)
    return True


def begins_journal(chunk: Chunk, path: Path, campaign_id: str) -> bool:
    """Whether a chunk begins with the header of the journal of this file name, in this campaign."""
    try:
        header = decode(chunk.data[: chunk.data.find(b"\n") + 1])
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return False
    return (
        isinstance(header, Header)
        and path.stem.endswith(f"-{header.journal_id}")
        and header.campaign_id == campaign_id
    )


def _open(path: Path, mode: int) -> int | None:
    """Open a replica, and create it if it is missing; return None if there is a file that is none."""
    create_folder(path.parent, mode)
    check_folders(path.parents[2], path.parent.parent, path.parent, mode=mode)
    if not os.path.lexists(path):
        mark_replica(path, mode)  # first, as a file without a mark would never grow
        with contextlib.suppress(FileExistsError):  # another process fetches it, too
            descriptor = open_no_link(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, mode)
            set_mode(descriptor, mode)
            return descriptor
    return open_no_link(path, os.O_RDWR) if may_grow(path) else None


def _is_finished(path: Path) -> bool:
    summary = summarize(path)
    return summary is not None and summary.footer is not None


def _replaces_slot(descriptor: int, data: bytes) -> bool:
    """Whether a chunk is the header that a replica has, with another reserved slot behind it."""
    header = data[: data.find(b"\n") + 1]
    is_slot = len(data) == len(header) + RESERVED_SLOT and slot_in_use(data)
    return is_slot and os.pread(descriptor, len(header), 0) == header


def _whole_records(data: bytes, limit: int) -> bytes:
    """Return the complete lines before the first padding byte: a writer may be filling the bytes behind."""
    padding = data.find(b"\0")
    data = data if padding < 0 else data[:padding]
    end = end_of_records(data)
    # A line longer than a chunk is copied in parts: readers wait for its end.
    return data if end == 0 and len(data) == limit else data[:end]


def _end_of_records(descriptor: int) -> int:
    """Return the end of the written bytes: a killed writer leaves NUL bytes behind them."""
    end = os.fstat(descriptor).st_size
    while end > 0:
        begin = max(0, end - _BLOCK)
        length = len(os.pread(descriptor, end - begin, begin).rstrip(b"\0"))
        if length:
            return begin + length
        end = begin
    return 0


def _read_slot(descriptor: int) -> bytes:
    """Read the header and the reserved slot; empty if the slot is not in use."""
    data = os.pread(descriptor, _HEAD, 0)
    return data[: data.find(b"\n") + 1 + RESERVED_SLOT] if slot_in_use(data) else b""


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16] if data else ""


def _write(descriptor: int, chunk: Chunk, size: int) -> None:
    try:
        position, rest = chunk.offset, memoryview(chunk.data)
        while rest:
            written = os.pwrite(descriptor, rest, position)
            position, rest = position + written, rest[written:]
    except OSError:
        os.ftruncate(descriptor, size)  # a full disk: the replica must not end within a chunk
        raise
