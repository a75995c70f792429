"""Where the tensors lie in a file of ``torch.save``, which is a zip archive with a member for each storage.

Flows in: a descriptor. Flows out: the stretches of the file that hold a storage each. The archive's directory
is read by hand: the standard library would hold all of it in memory, whatever it claims, and inflate what is
compressed. Nothing is inflated or unpickled here.
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Iterator
from typing import NamedTuple

from flowprov.contents.stretches import MAX_STRETCHES, DamagedError, Stretch, checked

_END = struct.Struct("<4s4H2LH")
_END_64 = struct.Struct("<4sQ2H2L4Q")
_LOCATOR_64 = struct.Struct("<4sLQL")
_ENTRY = struct.Struct("<4s4B4HL2L5H2L")
_LOCAL = struct.Struct("<4s5H3L2H")
_MAX_COMMENT = 1 << 16
_MAX_DIRECTORY = 64 << 20
_FULL, _MANY = 0xFFFFFFFF, 0xFFFF  # what stands for a number that does not fit
_STORAGE = re.compile(rb"[^/]+/(data/\d+|data/weights/[^/]+)")
_EXPORTED = (b"/archive_format", b"/serialized_exported_program.json", b"/models/model.json")


class Entry(NamedTuple):
    """A member of an archive."""

    name: bytes
    offset: int
    size: int
    is_stored: bool


def is_zip(head: bytes) -> bool:
    """Whether a file begins as a zip archive does."""
    return head.startswith(b"PK\x03\x04")


def entries(descriptor: int, size: int) -> list[Entry]:
    """Return the members of an archive, as its directory has them.

    Raises
    ------
    DamagedError
        If the directory is damaged, or larger than any of torch.
    OSError
        If the file cannot be read.
    """
    begin, length = _directory(descriptor, size)
    if length > _MAX_DIRECTORY or begin + length > size:
        raise DamagedError("the directory of the archive lies outside of it, or is too large")
    directory = os.pread(descriptor, length, begin)
    found = []
    try:
        for entry in _iter_entries(directory):
            found.append(entry)
            if len(found) > MAX_STRETCHES:
                raise DamagedError("too many members")
    except struct.error as error:
        raise DamagedError("the directory of the archive is damaged") from error
    return found


def format_of(members: list[Entry]) -> str:
    """Return which kind of archive it is, by the names of its members."""
    names = [entry.name for entry in members]
    if any(name.endswith(_EXPORTED) for name in names):
        return "pt2"
    if any(name.endswith(b"/data.pkl") for name in names):
        return "torch-zip"
    return "npz" if names and all(name.endswith(b".npy") for name in names) else "zip"


def stretches(descriptor: int, size: int, members: list[Entry]) -> list[Stretch]:
    """Return where the storages lie, in the order of the file.

    Raises
    ------
    DamagedError
        If members lie outside of the file or overlap, or are compressed: torch compresses none.
    OSError
        If the file cannot be read.
    """
    found = []
    for entry in members:
        if not _STORAGE.fullmatch(entry.name) or not entry.size:
            continue
        if not entry.is_stored:
            raise DamagedError("a tensor is compressed")
        local = os.pread(descriptor, _LOCAL.size, entry.offset)
        if len(local) < _LOCAL.size or local[:4] != b"PK\x03\x04":
            raise DamagedError("a member of the archive is not where its directory says")
        *_, name_length, extra_length = _LOCAL.unpack(local)
        begin = entry.offset + _LOCAL.size + name_length + extra_length
        found.append((begin, begin + entry.size))
    if len(set(found)) < len(found):
        raise DamagedError("tensors overlap")
    return checked(found, size)


def _directory(descriptor: int, size: int) -> tuple[int, int]:
    """Return offset and length of the directory of an archive."""
    begin = max(0, size - _END.size - _MAX_COMMENT)
    tail = os.pread(descriptor, size - begin, begin)
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or len(tail) - at < _END.size:
        raise DamagedError("the archive has no end")
    _, _, _, _, count, length, offset, _ = _END.unpack_from(tail, at)
    if _FULL not in (length, offset) and count != _MANY:
        return offset, length
    locator = os.pread(descriptor, _LOCATOR_64.size, max(0, begin + at - _LOCATOR_64.size))
    if len(locator) < _LOCATOR_64.size or locator[:4] != b"PK\x06\x07":
        return offset, length
    _, _, end_64, _ = _LOCATOR_64.unpack(locator)
    if end_64 > size:
        raise DamagedError("the end of the archive lies outside of it")
    record = os.pread(descriptor, _END_64.size, end_64)
    if len(record) < _END_64.size or record[:4] != b"PK\x06\x06":
        raise DamagedError("the end of the archive is damaged")
    *_, length, offset = _END_64.unpack(record)
    return offset, length


def _iter_entries(directory: bytes) -> Iterator[Entry]:
    position = 0
    while position < len(directory) and directory[position : position + 4] == b"PK\x01\x02":
        fields = _ENTRY.unpack_from(directory, position)
        method, packed, size = fields[6], fields[10], fields[11]
        name_length, extra_length, comment_length, offset = fields[12], fields[13], fields[14], fields[18]
        at = position + _ENTRY.size
        name = directory[at : at + name_length]
        extra = directory[at + name_length : at + name_length + extra_length]
        size, packed, offset = _wide(extra, size, packed, offset)
        yield Entry(name, offset, size, method == 0 and packed == size)
        position = at + name_length + extra_length + comment_length


def _wide(extra: bytes, *values: int) -> list[int]:
    """Return sizes and offset of a member, each from the extra field if it does not fit into 32 bits."""
    position = 0
    while position + 4 <= len(extra):
        kind, length = struct.unpack_from("<HH", extra, position)
        if kind == 1:
            numbers = iter(struct.unpack_from(f"<{length // 8}Q", extra, position + 4))
            return [next(numbers, value) if value == _FULL else value for value in values]
        position += 4 + length
    return list(values)
