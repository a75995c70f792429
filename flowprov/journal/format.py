"""The shape of a journal file: names, padding, and how a line is taken apart.

Flows in: bytes of a file. Flows out: (offset, line) pairs without padding. Used by writers and readers alike,
so that there is one place that knows the format.

A journal is JSON Lines in UTF-8, one record a line, the header first. Two kinds of padding may stand between
records: NUL bytes (room that was reserved and not used yet; a killed process leaves them) and blank lines
(room that was given up). A last line without its newline is still being written.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

SUFFIX = ".jsonl"
RESERVED_SLOT = (
    2048  # bytes after the header, for the last words of a journal that can grow no more (room.py)
)
_BRACE = ord("{")
_PADDING = bytes(1 << 20)
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")


def folder_name(text: str) -> str:
    """Make a campaign id or host name fit for a folder's name."""
    return _UNSAFE.sub("_", text).strip(".")[:120] or "_"


def journal_path(buffer: Path, campaign_id: str, hostname: str, pid: int, journal_id: str) -> Path:
    """Say where in a buffer a journal stands: ``campaign/host/pid-journal.jsonl``."""
    return buffer / folder_name(campaign_id) / folder_name(hostname) / f"{pid}-{journal_id}{SUFFIX}"


def find_journals(folder: Path) -> list[Path]:
    """List the journals under a buffer, campaign or host folder, oldest name first."""
    return sorted(folder.rglob(f"*{SUFFIX}"))


def padding_line(length: int) -> bytes:
    """Make a blank line of exactly ``length`` bytes (at least 1)."""
    return b" " * (length - 1) + b"\n"


def is_padding(data: bytes) -> bool:
    """Whether some bytes are reserved room and nothing else; much faster than to strip them.

    Programs that follow a journal look at megabytes of room several times a second.
    """
    return len(data) <= len(_PADDING) and _PADDING.startswith(data)


def slot_in_use(data: bytes) -> bool:
    """Whether a record stands in the room behind the header, where it may be overwritten while it is read.

    Parameters
    ----------
    data
        The beginning of a journal.
    """
    room = data.find(b"\n") + 1
    return (
        room > 0
        and data[room : room + 1] == b"{"
        and data[room + RESERVED_SLOT - 1 : room + RESERVED_SLOT] == b"\n"
    )


def lines(data: bytes, start: int = 0) -> Iterator[tuple[int, bytes]]:
    """Yield each complete line of ``data`` with its offset, from ``start`` on, without padding.

    NUL bytes are padding wherever they stand: before, between and after records. JSON never holds one, so
    each ends a line as a newline does. What follows the last newline is not yielded: it is not written to its
    end yet.
    """
    position = start
    for line in data[start : end_of_records(data)].replace(b"\0", b"\n").split(b"\n"):
        if line and (line[0] == _BRACE or line.strip()):
            yield position, line
        position += len(line) + 1


def end_of_records(data: bytes) -> int:
    """Give the offset just after the last newline of ``data``: all that a reader has to keep."""
    return data.rfind(b"\n") + 1
