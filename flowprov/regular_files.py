"""Opening files that others may have put in place of ours, and finding what was written in them.

Flows in: a path. Flows out: a descriptor of a regular file, and the offsets of its data. A FIFO would block
whoever opens it, a device may do anything, and a file of a few bytes on the disk may be terabytes long.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

# Opening never waits, nor takes over a terminal, whatever took the place of the file since it was looked at.
_NEVER_WAITING = os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY


def open_at_once(path: Path | str, flags: int, mode: int = 0o600) -> int:
    """Return a descriptor of a regular file, as an ``opener`` does; nothing else stays open.

    Raises
    ------
    OSError
        If the file cannot be opened, or is none.
    """
    descriptor = os.open(path, flags | _NEVER_WAITING, mode)
    try:
        _require_regular(os.fstat(descriptor), path)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def open_regular(path: Path) -> int:
    """Return a descriptor for reading a regular file.

    Raises
    ------
    OSError
        If the file cannot be opened, or is none: a FIFO, a device, a socket, a folder.
    """
    _require_regular(path.stat(), path)  # before: to open a device may do something
    return open_at_once(path, os.O_RDONLY)


def _require_regular(status: os.stat_result, path: Path | str) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "no regular file", os.fspath(path))


def read_beginning(path: Path, size: int) -> bytes:
    """Return the first bytes of a regular file.

    Raises
    ------
    OSError
        As :func:`open_regular` does, and if the file cannot be read.
    """
    descriptor = open_regular(path)
    try:
        return os.pread(descriptor, size, 0)
    finally:
        os.close(descriptor)


def next_data(descriptor: int, offset: int) -> int | None:
    """Return the offset of the next byte of a file, at or behind an offset, that lies in no hole.

    Returns
    -------
    int or None
        None if there is only a hole up to the end. The offset itself where holes cannot be found.
    """
    try:
        return os.lseek(descriptor, offset, os.SEEK_DATA)
    except OSError as error:
        return None if error.errno == errno.ENXIO else offset


def end_of_data(descriptor: int, size: int) -> int:
    """Return an offset behind which a file has only a hole; its size where holes cannot be found."""
    low, high = 0, size  # data may begin at low or behind it, and does not begin at high
    while low < high:
        middle = (low + high) // 2
        if next_data(descriptor, middle) is None:
            high = middle
        else:
            low = middle + 1
    return low
