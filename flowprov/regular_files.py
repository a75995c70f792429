"""Opening files that others may have put in place of ours, and finding what was written in them.

Flows in: a path. Flows out: a descriptor of a regular file, and the offsets of its data. A FIFO would block
whoever opens it, a device may do anything, and a file of a few bytes on the disk may be terabytes long.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import NamedTuple

from flowprov.file_marks import close_marked, has_mark, set_mark, write_marked

_WRITTEN_AT_ONCE = 1 << 16  # bytes, while other threads wait
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
    status = os.fstat(
        descriptor
    )  # if that fails, somebody has closed it, and the number is not ours any more
    try:
        _require_regular(status, path)
    except OSError:
        close_own(descriptor, FileIdentity(status.st_dev, status.st_ino))
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


def read_at_once(path: Path, most: int) -> bytes:
    """Return the beginning of a regular file, from a thread beside the program.

    The program may close any descriptor meanwhile, and open its own file under the number: that one is not
    closed.

    Raises
    ------
    OSError
        If it cannot be read, or is no regular file.
    ValueError
        If the path holds a NUL.
    """
    descriptor = open_regular(path)
    identity = mark_own(descriptor, path)
    try:
        parts, size = [], 0
        while size < most and (part := os.pread(descriptor, most - size, size)):
            parts.append(part)
            size += len(part)
        return b"".join(parts) if is_own(descriptor, identity) else b""
    finally:
        close_own(descriptor, identity)


class FileIdentity(NamedTuple):
    """What tells an open file from all others, besides the number of its descriptor.

    ``mark`` is that of :mod:`flowprov.file_marks`; None where files take none.
    """

    device: int
    inode: int
    mark: int | None = None


def mark_own(descriptor: int, path: Path | str | None = None) -> FileIdentity | None:
    """Mark a file of ours that was just opened, and return its identity; None if somebody has closed it.

    Parameters
    ----------
    descriptor
        Its number.
    path
        Its path: when Python tells the number to a thread, another one may have closed it already, and have
        opened a file of the program under it. None for a pipe.
    """
    try:
        status = os.fstat(descriptor)
        if path is not None and not os.path.samestat(status, os.stat(path)):  # noqa: PTH116 - bytes that are no text
            return None
        return FileIdentity(status.st_dev, status.st_ino, set_mark(descriptor))
    except OSError:
        return None


def is_own(descriptor: int, identity: FileIdentity | None) -> bool:
    """Whether a number still stands for a file of ours. What follows at once meets this file."""
    if identity is None:
        return False
    try:
        status = os.fstat(descriptor)
    except OSError:
        return False
    return (status.st_dev, status.st_ino) == identity[:2] and has_mark(descriptor, identity.mark)


def close_own(descriptor: int, identity: FileIdentity | None) -> None:
    """Close a descriptor, unless the program has closed it, and maybe opened a file of its own there."""
    if identity is not None and is_own(descriptor, identity):
        close_marked(descriptor, identity.mark)


def write_own(descriptor: int, identity: FileIdentity | None, content: bytes) -> None:
    """Write all of some content, and nothing into a file of the program.

    Raises
    ------
    OSError
        If it cannot be written, or if the descriptor stands for another file by now.
    """
    written = 0
    while written < len(content):
        taken = None
        if identity is not None and is_own(descriptor, identity):
            taken = write_marked(descriptor, identity.mark, content[written : written + _WRITTEN_AT_ONCE])
        if taken is None:
            raise OSError(errno.EBADF, "somebody has closed the file")
        written += taken
