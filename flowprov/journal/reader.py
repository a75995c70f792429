"""Reading a journal: its records and its damage.

Flows in: one file, which may grow, may be damaged, and may be cut at its end while it is read. Flows out:
records with their offsets, in order, and a :class:`Damage` for every stretch that is no record. No content of
a file makes reading fail.

The file is read in blocks and never mapped: a journal is cut when it is closed, and a mapped page behind the
new end would kill the reader. Memory holds one block and the longest line.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar

import msgspec

from flowprov import records
from flowprov.journal.format import SUFFIX, end_of_records, is_padding, lines, slot_in_use
from flowprov.records import Campaign, Footer, Header, Heartbeat, Record

R = TypeVar("R")

BLOCK_SIZE = 1 << 20
_UNKNOWN = 0  # stands for the times and numbers of a lost header
# A line may look damaged because its writer was still copying it when it was read, or, in the reserved slot,
# was just overwriting it. Reading it again tells this from damage.
_MAX_REREADS = 3
# RecursionError: brackets nested by the thousand; ValueError: bytes that are not UTF-8.
_NOT_A_RECORD = (msgspec.MsgspecError, ValueError, RecursionError)


class Damage(NamedTuple):
    """A stretch of a journal that is no record.

    Attributes
    ----------
    path
        The journal.
    offset, length
        Its beginning and its length, in bytes.
    reason
        Why it is no record.
    """

    path: Path
    offset: int
    length: int
    reason: str


class JournalReader(Generic[R]):
    """Reads a journal from a position on; each further :meth:`read` continues where the last one ended.

    Parameters
    ----------
    path
        The journal.
    position
        Offset of the first byte to read: 0, or the ``position`` of an earlier reader.
    decode
        Turns a line into a record, or into whatever the caller needs; raises if the line is no record.
    missing_ok
        Treat a file that does not exist (any more) as empty.

    Attributes
    ----------
    position
        The end of the last record that :meth:`read` yielded: another reader can continue there.
    damages
        The damage found so far.
    unfinished
        The bytes that :meth:`read` found behind the last complete line at the end of the file.
    """

    def __init__(
        self,
        path: Path,
        position: int = 0,
        decode: Callable[[bytes], R] = records.decode,  # type: ignore[assignment]
        *,
        missing_ok: bool = False,
    ) -> None:
        self.path = path
        self.position = position
        self.damages: list[Damage] = []
        self.unfinished: Damage | None = None
        self._decode = decode
        self._missing_ok = missing_ok

    def read(self) -> Iterator[tuple[int, R]]:
        """Yield each record from the position on with its offset, until the present end of the file.

        Raises
        ------
        OSError
            If the file cannot be opened or read.
        """
        try:
            descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            if self._missing_ok:
                return
            raise
        try:
            for start, data in self._blocks(descriptor):
                decoded, damages = self._decode_block(descriptor, start, data)
                self.damages += damages
                for offset, end, record in decoded:
                    self.position = end
                    yield offset, record
                self.position = start + len(data)
        finally:
            os.close(descriptor)

    def _blocks(self, descriptor: int) -> Iterator[tuple[int, bytes]]:
        """Yield stretches of the file that end with a newline, each with its offset.

        A writer may fill padding while a block is read, or between two reads. So bytes behind padding are
        used only after that padding was read again. Records are written one after the other: padding that is
        still empty then stays empty.
        """
        self.unfinished = None
        start = end = self.position  # bytes from start on were not yielded yet, bytes from end on not read
        stays_empty_until = 0  # padding before this offset stays empty
        in_padding = False
        parts: list[bytes] = []
        while data := os.pread(descriptor, BLOCK_SIZE, end):
            padding = 0 if in_padding else data.find(b"\0", max(0, stays_empty_until - end))
            padding_end = padding + _padding_length(data[padding:]) if padding >= 0 else len(data)
            if padding_end < len(data):
                stays_empty_until, end, in_padding = end + padding_end, start, False
                parts.clear()
                continue
            in_padding = padding >= 0
            end += len(data)
            # Padding is dropped as it is read: a journal may end with megabytes of it.
            data = data[:padding] if in_padding else data
            cut = end_of_records(data)
            if cut:
                complete = b"".join((*parts, data[:cut]))
                yield start, complete
                start += len(complete)
                parts.clear()
            incomplete = data[cut:]
            if not parts:
                empty = _padding_length(incomplete)
                incomplete = incomplete[empty:]
                start += empty
            if incomplete:
                parts.append(incomplete)
        if torn := b"".join(parts).rstrip(b"\0 \t\r\v\f"):
            self.unfinished = Damage(self.path, start, len(torn), "not written to its end")

    def _decode_block(
        self, descriptor: int, start: int, data: bytes
    ) -> tuple[list[tuple[int, int, R]], list[Damage]]:
        """Decode the lines of a block; read it again where it may have changed during the first read."""
        decoded, damages = self._decode_lines(start, data)
        may_change = start == 0 and slot_in_use(data)
        for _ in range(_MAX_REREADS):
            if not (damages or may_change) or (again := os.pread(descriptor, len(data), start)) == data:
                break
            if len(again) == len(data) and again.endswith(b"\n"):
                data = again
                decoded, damages = self._decode_lines(start, data)
        return decoded, damages

    def _decode_lines(self, start: int, data: bytes) -> tuple[list[tuple[int, int, R]], list[Damage]]:
        decoded: list[tuple[int, int, R]] = []
        damages: list[Damage] = []
        decode, path = self._decode, self.path
        for line_offset, line in lines(data):
            offset = start + line_offset
            try:
                record = decode(line)
            except _NOT_A_RECORD as error:
                damages.append(Damage(path, offset, len(line), _reason(error)))
            else:
                decoded.append((offset, offset + len(line) + 1, record))
        return decoded, damages


def read_header(path: Path) -> Header:
    """Read the header of a journal; create one from the file's path where the header was lost."""
    return read_head(path).header or header_from_path(path)


class Head(NamedTuple):
    """The control records at the beginning of a journal: in its first block, the reserved slot included.

    Attributes
    ----------
    header, campaign, footer, heartbeat
        The first record of each kind; None if there is none.
    late
        The footer, if it lies in the reserved slot, and so before records that were written earlier.
    """

    header: Header | None
    campaign: Campaign | None
    footer: Footer | None
    heartbeat: Heartbeat | None
    late: Footer | None


def read_head(path: Path, size: int = 16 * 1024) -> Head:
    """Read the beginning of a journal.

    Parameters
    ----------
    path
        The journal.
    size
        Number of bytes to read.

    Raises
    ------
    OSError
        If the file cannot be opened or read.
    """
    with path.open("rb", buffering=0) as file:
        data = file.read(size)
        for _ in range(_MAX_REREADS):
            if not slot_in_use(data) or (again := os.pread(file.fileno(), size, 0)) == data:
                break
            data = again
    first_of_type: dict[type, Record] = {}
    late = None
    slot = data.find(b"\n") + 1 if slot_in_use(data) else None
    for offset, line in lines(data):
        try:
            record = records.decode(line)
        except _NOT_A_RECORD:
            continue
        first_of_type.setdefault(type(record), record)
        if offset == slot and isinstance(record, Footer):
            late = record
    header, campaign, footer, heartbeat = map(first_of_type.get, (Header, Campaign, Footer, Heartbeat))
    return Head(
        header if isinstance(header, Header) else None,
        campaign if isinstance(campaign, Campaign) else None,
        footer if isinstance(footer, Footer) else None,
        heartbeat if isinstance(heartbeat, Heartbeat) else None,
        late,
    )


def header_from_path(path: Path) -> Header:
    """Create the header of a journal that lost its own, from ``campaign/host/pid-journal.jsonl``."""
    pid, _, journal_id = path.name.removesuffix(SUFFIX).partition("-")
    folders = [*path.absolute().parts[-3:-1]]
    return Header(
        schema=records.SCHEMA_VERSION,
        journal_id=journal_id or pid,
        campaign_id=folders[0] if len(folders) > 1 else "",
        hostname=folders[-1] if folders else "",
        pid=int(pid) if pid.isdecimal() and pid.isascii() else _UNKNOWN,
        started_at=_UNKNOWN,
        monotonic_ns=_UNKNOWN,
    )


def _padding_length(data: bytes) -> int:
    return len(data) if is_padding(data) else len(data) - len(data.lstrip(b"\0"))


def _reason(error: Exception) -> str:
    if isinstance(error, msgspec.ValidationError):
        return f"no record that this version knows: {error}"
    if isinstance(error, RecursionError):
        return "nested too deeply"
    if isinstance(error, UnicodeError):
        return "not UTF-8"
    return str(error)
