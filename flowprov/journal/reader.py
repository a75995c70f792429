"""Reading a journal: its records, and what of it cannot be read.

Flows in: one file, which may be growing, may be damaged and may be cut at its end while it is read. Flows
out: records with their offsets, in order, and a :class:`Damage` for every stretch that is no record. Nothing
in the content of a file makes reading fail.

The file is read in pieces and never mapped: a journal is cut when it is closed, and a mapped page behind the
new end would kill the reader. What is held in memory is one piece and the longest line.
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

CHUNK = 1 << 20
_UNKNOWN = 0  # for times and numbers that a lost header would have told
# A damaged line may be one whose bytes were on their way from the writer's memory when it was read; one
# behind the header may have been overwritten at that moment.
_SECOND_LOOKS = 3
# RecursionError: brackets nested by the thousand; ValueError: bytes that are no UTF-8.
_NO_RECORD = (msgspec.MsgspecError, ValueError, RecursionError)


class Damage(NamedTuple):
    """A stretch of a journal that is no record.

    Attributes
    ----------
    path
        The journal.
    offset, length
        Where it begins and how long it is, in bytes.
    reason
        What is wrong with it.
    """

    path: Path
    offset: int
    length: int
    reason: str


class JournalReader(Generic[R]):
    """Reads a journal from a position on, and again what came since.

    Parameters
    ----------
    path
        The journal.
    position
        Where to begin, in bytes: 0, or a ``position`` of an earlier reader.
    decode
        Makes a record, or what else is wanted, of a line; raises if the line is none.
    missing_ok
        Take a file that is not there (any more) as one that holds nothing.

    Attributes
    ----------
    position
        The end of the record that :meth:`read` gave last: where another reader can go on.
    damages
        What could not be read so far.
    unfinished
        What :meth:`read` found behind the last complete line when it came to the end.
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
        """Give each record from the position on with its offset, until the present end of the file.

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
            for start, data in self._chunks(descriptor):
                found, damages = self._decode_chunk(descriptor, start, data)
                self.damages += damages
                for offset, end, record in found:
                    self.position = end
                    yield offset, record
                self.position = start + len(data)
        finally:
            os.close(descriptor)

    def _chunks(self, descriptor: int) -> Iterator[tuple[int, bytes]]:
        """Give stretches of the file that end with a newline, each with its offset.

        A writer may fill reserved room while it is looked at, or between two looks: what stands behind room
        is taken only after that room was looked at again. Records are written one after the other, so room
        that is still there by then stays empty.
        """
        self.unfinished = None
        start = end = self.position  # what was not given yet begins at start, what was not read at end
        settled = 0  # room before it stays empty
        in_room = False
        parts: list[bytes] = []
        while data := os.pread(descriptor, CHUNK, end):
            room = 0 if in_room else data.find(b"\0", max(0, settled - end))
            behind = room + _padding_length(data[room:]) if room >= 0 else len(data)
            if behind < len(data):
                settled, end, in_room = end + behind, start, False
                parts.clear()
                continue
            in_room = room >= 0
            end += len(data)
            # Room is forgotten as it is read: a journal may end with megabytes of it.
            data = data[:room] if in_room else data
            cut = end_of_records(data)
            if cut:
                whole = b"".join((*parts, data[:cut]))
                yield start, whole
                start += len(whole)
                parts.clear()
            rest = data[cut:]
            if not parts:
                empty = _padding_length(rest)
                rest = rest[empty:]
                start += empty
            if rest:
                parts.append(rest)
        if torn := b"".join(parts).rstrip(b"\0 \t\r\v\f"):
            self.unfinished = Damage(self.path, start, len(torn), "not written to its end")

    def _decode_chunk(
        self, descriptor: int, start: int, data: bytes
    ) -> tuple[list[tuple[int, int, R]], list[Damage]]:
        found, damages = self._decode_lines(start, data)
        doubtful = start == 0 and slot_in_use(data)
        for _ in range(_SECOND_LOOKS):
            if not (damages or doubtful) or (again := os.pread(descriptor, len(data), start)) == data:
                break
            if len(again) == len(data) and again.endswith(b"\n"):
                data = again
                found, damages = self._decode_lines(start, data)
        return found, damages

    def _decode_lines(self, start: int, data: bytes) -> tuple[list[tuple[int, int, R]], list[Damage]]:
        found: list[tuple[int, int, R]] = []
        damages: list[Damage] = []
        decode, path = self._decode, self.path
        for place, line in lines(data):
            offset = start + place
            try:
                record = decode(line)
            except _NO_RECORD as error:
                damages.append(Damage(path, offset, len(line), _reason(error)))
            else:
                found.append((offset, offset + len(line) + 1, record))
        return found, damages


def read_header(path: Path) -> Header:
    """Read the header of a journal, or make one from the file's place where it was lost."""
    return read_head(path).header or header_from_path(path)


class Head(NamedTuple):
    """What stands in the first piece of a journal: the header, and what a full disk drove there.

    Attributes
    ----------
    header, campaign, footer, heartbeat
        The first of each kind.
    late
        The footer, if it stands in the room behind the header: before records that were written earlier.
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
        How much to look at, in bytes.

    Raises
    ------
    OSError
        If the file cannot be opened or read.
    """
    with path.open("rb", buffering=0) as file:
        data = file.read(size)
        for _ in range(_SECOND_LOOKS):
            if not slot_in_use(data) or (again := os.pread(file.fileno(), size, 0)) == data:
                break
            data = again
    found: dict[type, Record] = {}
    late = None
    room = data.find(b"\n") + 1 if slot_in_use(data) else None
    for offset, line in lines(data):
        try:
            record = records.decode(line)
        except _NO_RECORD:
            continue
        found.setdefault(type(record), record)
        if offset == room and isinstance(record, Footer):
            late = record
    header, campaign, footer, heartbeat = map(found.get, (Header, Campaign, Footer, Heartbeat))
    return Head(
        header if isinstance(header, Header) else None,
        campaign if isinstance(campaign, Campaign) else None,
        footer if isinstance(footer, Footer) else None,
        heartbeat if isinstance(heartbeat, Heartbeat) else None,
        late,
    )


def header_from_path(path: Path) -> Header:
    """Make the header of a journal that lost its own, from ``campaign/host/pid-journal.jsonl``."""
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
