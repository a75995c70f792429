"""Reading a journal: its records and its damage.

Flows in: one file, which may grow, may be damaged, and may be cut at its end while it is read. Flows out:
records with their offsets, in order, and a :class:`Damage` for every stretch that is no record. No content of
a file makes reading fail.

The file is read in blocks and never mapped: a journal is cut when it is closed, and a mapped page behind the
new end would kill the reader. Memory holds one block and one line. A line that is longer than any record is
damage, of which nothing is kept. The work is proportional to the bytes of a file, and holes are skipped.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar

import msgspec

from flowprov import records
from flowprov.journal.format import SUFFIX, end_of_records, is_padding, lines, slot_in_use
from flowprov.records import (
    BEGINNING,
    NOT_A_RECORD,
    Campaign,
    Footer,
    Header,
    Heartbeat,
    Record,
    as_written,
)
from flowprov.regular_files import next_data, open_regular

R = TypeVar("R")

BLOCK_SIZE = 1 << 20
MAX_LINE = 16 << 20  # bytes: many times the longest record
_MAX_DAMAGES = 1_000  # of one file, with a place of their own in the list
_MAX_REASON = 200  # characters: a message may quote a whole line
_LARGEST_GAP = 64 * 1024  # bytes of padding in a line whose writer may still be copying it
_LARGEST_PADDING = 16 << 20  # more than a writer reserves: behind it, holes are skipped
_MAX_PID_DIGITS = 18
_EVENTS = (b'{"type":"task"', b'{"type":"open_task"', b'{"type":"workflow"', b'{"type":"sample"')
_HEADER = b'{"type":"header"'
_UNKNOWN = 0  # stands for the times and numbers of a lost header
# A line may look damaged because its writer was still copying it when it was read, or, in the reserved slot,
# was just overwriting it. Reading it again tells this from damage.
_MAX_REREADS = 3


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
        self._unlisted_damages = 0
        self._long_line_at: int | None = None  # where a line begins that is too long, and has not ended yet

    def read(self) -> Iterator[tuple[int, R]]:
        """Yield each record from the position on with its offset, until the present end of the file.

        Raises
        ------
        OSError
            If the file cannot be opened or read.
        """
        try:
            descriptor = open_regular(self.path)
        except FileNotFoundError:
            if self._missing_ok:
                return
            raise
        try:
            for start, data in self._blocks(descriptor):
                decoded, damages = self._decode_block(descriptor, start, data)
                for damage in damages:
                    self._add_damage(damage)
                for offset, end, record in decoded:
                    self.position = end
                    yield offset, record
                self.position = start + len(data)
        finally:
            os.close(descriptor)

    def _add_damage(self, damage: Damage) -> None:
        """List damage; of very many places, the last one in the list stands for all others."""
        if len(self.damages) < _MAX_DAMAGES:
            self.damages.append(damage)
            return
        first = self.damages[-1]
        self._unlisted_damages += 1
        self.damages[-1] = first._replace(
            length=damage.offset + damage.length - first.offset,
            reason=f"{self._unlisted_damages + 1} damaged places",
        )

    def _blocks(self, descriptor: int) -> Iterator[tuple[int, bytes]]:
        """Yield stretches of the file that end with a newline, each with its offset."""
        self.unfinished = None
        start = end = self.position  # bytes from start on were not yielded yet, bytes from end on not read
        parts: list[bytes] = []
        for offset, data in self._written(descriptor):
            if offset - end > (0 if self._long_line_at is not None else _LARGEST_GAP):
                self._end_long_line(end)
                if parts:  # NUL bytes end a line as a newline does
                    yield start, b"".join((*parts, b"\n"))
                    parts.clear()
            elif parts:
                parts.append(bytes(offset - end))
            end = offset + len(data)
            rest = data if self._long_line_at is None else self._skip_long_line(data, end)
            if not parts:
                start = end - len(rest)
            if cut := end_of_records(rest):
                complete = b"".join((*parts, rest[:cut]))
                yield start, complete
                start += len(complete)
                parts.clear()
            start += _append(parts, rest[cut:])
            if end - start > MAX_LINE:
                parts.clear()
                self._begin_long_line(start, end)
        self._measure_long_line(end)
        if torn := b"".join(parts).rstrip(b"\0 \t\r\v\f"):
            self.unfinished = Damage(self.path, start, len(torn), "not written to its end")

    def _written(self, descriptor: int) -> Iterator[tuple[int, bytes]]:
        """Yield what was written into the file, block by block, each with its offset; no padding in between.

        A writer may fill padding while a block is read, or between two reads. So bytes behind padding are
        used only after that padding was read again. Records are written one after the other: padding that is
        still empty then stays empty.
        """
        limit = os.fstat(descriptor).st_size  # a file may grow as fast as it is read
        end = self.position
        while end < limit and (data := self._read_final(descriptor, end, limit)):
            if data[0]:
                yield end, data
                end += len(data)
            else:
                end = _end_of_padding(descriptor, end, limit)

    @staticmethod
    def _read_final(descriptor: int, offset: int, limit: int) -> bytes:
        """Read bytes that do not change any more: up to the last one of a block that was written.

        Returns
        -------
        bytes
            They begin with a NUL byte if padding begins here, behind which something was written; empty if
            there is nothing more.
        """
        data = os.pread(descriptor, min(BLOCK_SIZE, limit - offset), offset)
        if data[:1] == b"\0":
            return b"\0" if _end_of_padding(descriptor, offset, limit) < limit else b""
        written = data.rstrip(b"\0")
        return os.pread(descriptor, len(written), offset) if b"\0" in written else written

    def _begin_long_line(self, start: int, end: int) -> None:
        """Leave out a line that is longer than any record; the next reads look for its end."""
        self._long_line_at = start
        self.position = end
        self._add_damage(Damage(self.path, start, end - start, f"a line of more than {MAX_LINE} bytes"))

    def _skip_long_line(self, data: bytes, end: int) -> bytes:
        """Return what is behind the long line in some bytes, which end at an offset; empty if nothing is."""
        ends = [index for index in (data.find(b"\n"), data.find(b"\0")) if index >= 0]
        rest = data[min(ends) :] if ends else b""
        self.position = end - len(rest)
        if ends:
            self._end_long_line(self.position)
        return rest

    def _end_long_line(self, end: int) -> None:
        self._measure_long_line(end)
        self._long_line_at = None

    def _measure_long_line(self, end: int) -> None:
        """Note how far the long line reaches, if there is one."""
        if self._long_line_at is not None and (last := self.damages[-1]).offset == self._long_line_at:
            self.damages[-1] = last._replace(length=end - last.offset)

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
                record = decode(line if line.startswith(BEGINNING) else as_written(line))
            except NOT_A_RECORD as error:
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
    descriptor = open_regular(path)
    try:
        data = os.pread(descriptor, size, 0)
        # A header that names many earlier files is longer; the reserved slot stands behind it.
        while data.startswith(_HEADER) and b"\n" not in data[: size // 2] and size <= len(data) < MAX_LINE:
            size *= 8
            data = os.pread(descriptor, size, 0)
        for _ in range(_MAX_REREADS):
            if not slot_in_use(data) or (again := os.pread(descriptor, size, 0)) == data:
                break
            data = again
    finally:
        os.close(descriptor)
    first_of_type: dict[type, Record] = {}
    late = None
    slot = data.find(b"\n") + 1 if slot_in_use(data) else None
    for offset, line in lines(data):
        if line.startswith(_EVENTS):  # most lines: they would be decoded for nothing
            continue
        try:
            record = records.decode(line)
        except NOT_A_RECORD:
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
    # Names of files need not be UTF-8.
    parts = [os.fsencode(part).decode(errors="backslashreplace") for part in path.absolute().parts[-3:]]
    pid, _, journal_id = parts.pop().removesuffix(SUFFIX).partition("-")
    folders = parts
    return Header(
        schema=records.SCHEMA_VERSION,
        journal_id=journal_id or pid,
        campaign_id=folders[0] if len(folders) > 1 else "",
        hostname=folders[-1] if folders else "",
        pid=int(pid) if pid.isdecimal() and pid.isascii() and len(pid) <= _MAX_PID_DIGITS else _UNKNOWN,
        started_at=_UNKNOWN,
        monotonic_ns=_UNKNOWN,
    )


def _append(parts: list[bytes], incomplete: bytes) -> int:
    """Append to the parts of a line; return the length of the padding before it, which is left out."""
    padding = 0 if parts else _padding_length(incomplete)
    if padding < len(incomplete):
        parts.append(incomplete[padding:])
    return padding


def _end_of_padding(descriptor: int, offset: int, limit: int) -> int:
    """Return the offset of the first byte, at or behind an offset, that is not NUL; the limit if none is."""
    begin = offset
    while offset < limit and (data := os.pread(descriptor, min(BLOCK_SIZE, limit - offset), offset)):
        padding = _padding_length(data)
        offset += padding
        if padding < len(data):
            return offset
        if offset - begin > _LARGEST_PADDING:
            offset = next_data(descriptor, offset) or limit
    return limit


def _padding_length(data: bytes) -> int:
    return len(data) if is_padding(data) else len(data) - len(data.lstrip(b"\0"))


def _reason(error: Exception) -> str:
    if isinstance(error, msgspec.ValidationError):
        return f"no record that this version knows: {error}"[:_MAX_REASON]
    if isinstance(error, RecursionError):
        return "nested too deeply"
    if isinstance(error, UnicodeError):
        return "not UTF-8"
    return str(error)[:_MAX_REASON]
