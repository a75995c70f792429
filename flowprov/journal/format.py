"""The format of a journal file: its name, its lines and its padding.

Flows in: the bytes of a file. Flows out: (offset, line) pairs without padding. Writers and readers both use
this module, so that one file knows the format.

A journal is JSON Lines in UTF-8, one record per line, the header first. Two kinds of padding may stand
between records: NUL bytes, which were reserved and not used yet (a killed process leaves them), and blank
lines, which fill the unused end of a segment. A last line without a newline is still being written.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

SUFFIX = ".jsonl"
# Bytes behind the header, for the last heartbeat and the footer of a full journal (files.ReservedSlot).
RESERVED_SLOT = 2048
_BRACE = ord("{")
_PADDING = bytes(1 << 20)
_SAFE = re.compile(r"[A-Za-z0-9_-]([A-Za-z0-9._-]*[A-Za-z0-9_-])?")
_JOURNAL_NAME = re.compile(rf"[0-9]+-[0-9a-f]{{32}}{re.escape(SUFFIX)}")
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")
_MAX_NAME = 120  # characters
_DIGEST_MARK = "+"  # no text that is its own name holds it


def folder_name(text: str) -> str:
    """Return the name of the folder for a campaign id or a host; two texts never have the same name.

    A text that can name a folder is its own name. Any other one is written with the characters that can, and
    with a digest of the whole text behind them.
    """
    if len(text) <= _MAX_NAME and _SAFE.fullmatch(text):
        return text
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:12]
    return f"{_old_folder_name(text)[: _MAX_NAME - 20]}{_DIGEST_MARK}{digest}"


def folder_names(text: str) -> tuple[str, ...]:
    """Return the names that the folder for a campaign id or a host can have: today's, and the one before.

    In older buffers several texts share a name: only the header of a journal says whose it is.
    """
    return tuple(dict.fromkeys((folder_name(text), _old_folder_name(text))))


def _old_folder_name(text: str) -> str:
    return _UNSAFE.sub("_", text).strip(".")[:_MAX_NAME] or "_"


def journal_path(buffer: Path, campaign_id: str, hostname: str, pid: int, journal_id: str) -> Path:
    """Return the path of a journal in a buffer: ``campaign/host/pid-journal.jsonl``."""
    return buffer / folder_name(campaign_id) / folder_name(hostname) / f"{pid}-{journal_id}{SUFFIX}"


def is_journal_name(name: str) -> bool:
    """Whether a file has a name that :func:`journal_path` gives; other files may lie beside journals."""
    return _JOURNAL_NAME.fullmatch(name) is not None


def find_journals(folder: Path) -> list[Path]:
    """Return the journals under a buffer, campaign or host folder, sorted by path."""
    return scan_journals(folder)[0]


def scan_journals(folder: Path) -> tuple[list[Path], dict[Path, str]]:
    """Return the journals under a folder, sorted by path, and which folders cannot be listed, and why.

    Links to folders are not followed. What is named like a journal need not be a file.
    """
    journals: list[Path] = []
    unlisted: dict[Path, str] = {}
    folders = [folder]
    while folders:  # no recursion: folders may be nested deeply
        current = folders.pop()
        try:
            with os.scandir(current) as entries:
                for entry in entries:
                    if entry.name.endswith(SUFFIX):
                        journals.append(current / entry.name)
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(current / entry.name)
        except (FileNotFoundError, NotADirectoryError):  # there is none, or it was removed meanwhile
            continue
        except OSError as error:
            unlisted[current] = error.strerror or str(error)
    return sorted(journals), unlisted


def padding_line(length: int) -> bytes:
    """Return a blank line of exactly ``length`` bytes (at least 1)."""
    return b" " * (length - 1) + b"\n"


def is_padding(data: bytes) -> bool:
    """Whether bytes are all NUL; much faster than stripping them.

    Programs that follow a journal look at megabytes of padding several times a second.
    """
    return len(data) <= len(_PADDING) and _PADDING.startswith(data)


def slot_in_use(data: bytes) -> bool:
    """Whether the reserved slot holds a record; its writer may overwrite that record during a read.

    Parameters
    ----------
    data
        The beginning of a journal.
    """
    slot = data.find(b"\n") + 1
    return (
        slot > 0
        and data[slot : slot + 1] == b"{"
        and data[slot + RESERVED_SLOT - 1 : slot + RESERVED_SLOT] == b"\n"
    )


def lines(data: bytes, start: int = 0) -> Iterator[tuple[int, bytes]]:
    """Yield each complete line of ``data`` with its offset, from ``start`` on, without padding.

    NUL bytes are padding wherever they stand: before, between and after records. JSON never holds a NUL byte,
    so each one ends a line as a newline does. Bytes behind the last newline are not yielded: that line is
    still being written.
    """
    position = start
    for line in data[start : end_of_records(data)].replace(b"\0", b"\n").split(b"\n"):
        if line and (line[0] == _BRACE or line.strip()):
            yield position, line
        position += len(line) + 1


def end_of_records(data: bytes) -> int:
    """Return the offset just behind the last newline of ``data``: the end of its complete lines."""
    return data.rfind(b"\n") + 1
