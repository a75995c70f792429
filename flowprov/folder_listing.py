"""The entries of a folder, listed by a thread beside the program.

Flows in: the path of a folder. Flows out: its entries.

``os.scandir`` and ``os.listdir`` close the number that they opened, whatever the program has closed and
opened meanwhile, and let other threads run between any two entries. Here the number is known by more than
itself, and hundreds of entries come at once.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import struct
from collections.abc import Callable, Iterator
from typing import NamedTuple

from flowprov.regular_files import close_own, is_own, mark_own

# glibc from 2.30 on; elsewhere the folder is listed by Python.
_getdents: Callable[..., int] | None = getattr(ctypes.CDLL(None, use_errno=True), "getdents64", None)
_BLOCK = 1 << 16
_HEAD = struct.Struct("=QqHB")  # of an entry: inode, offset, length, type; then comes its name. getdents64(2)
_UNKNOWN, _IS_FOLDER, _IS_FILE, _IS_LINK = 0, 4, 8, 10
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NONBLOCK


class Entry(NamedTuple):
    """An entry of a folder, with some methods of ``os.DirEntry``. None of them opens anything.

    ``kind`` is what the folder says of its type; file systems need not.
    """

    name: str
    path: str
    kind: int = _UNKNOWN

    def is_dir(self, *, follow_symlinks: bool = True) -> bool:
        """Whether it is a folder."""
        if self.kind == _UNKNOWN or (self.kind == _IS_LINK and follow_symlinks):
            return stat.S_ISDIR(self._mode(follow_symlinks=follow_symlinks))
        return self.kind == _IS_FOLDER

    def is_file(self) -> bool:
        """Whether it is a regular file, or a link to one."""
        if self.kind in (_UNKNOWN, _IS_LINK):
            return stat.S_ISREG(self._mode())
        return self.kind == _IS_FILE

    def is_symlink(self) -> bool:
        """Whether it is a link."""
        if self.kind == _UNKNOWN:
            return stat.S_ISLNK(self._mode(follow_symlinks=False))
        return self.kind == _IS_LINK

    def stat(self) -> os.stat_result:
        """Return its status; that of the target if it is a link."""
        return os.stat(self.path)  # noqa: PTH116 - these are thousands

    def _mode(self, *, follow_symlinks: bool = True) -> int:
        try:
            return os.stat(self.path, follow_symlinks=follow_symlinks).st_mode  # noqa: PTH116 - as above
        except (FileNotFoundError, NotADirectoryError):  # it went away, or is a link that leads nowhere
            return 0


def list_folder(folder: str, most: int | None = None) -> list[Entry]:
    """Return the entries of a folder, in no order.

    Parameters
    ----------
    folder
        Its path.
    most
        So many are enough; None: all of them.

    Raises
    ------
    OSError
        If it cannot be listed.
    ValueError
        If the path holds a NUL.
    """
    if _getdents is None:
        names = os.listdir(folder)[:most]  # noqa: PTH208 - these are names
        return [Entry(name, os.path.join(folder, name)) for name in names]  # noqa: PTH118 - as above
    return _list(folder, most, _getdents)[:most]


def _list(folder: str, most: int | None, getdents: Callable[..., int]) -> list[Entry]:
    descriptor = os.open(folder, _FOLDER)
    identity = mark_own(descriptor, folder)
    entries: list[Entry] = []
    block = ctypes.create_string_buffer(_BLOCK)
    try:
        while most is None or len(entries) < most:
            if not is_own(descriptor, identity):
                raise OSError(errno.EBADF, "the program closed the folder", folder)
            size = getdents(descriptor, block, _BLOCK)
            if size < 0:
                code = ctypes.get_errno()
                raise OSError(code, os.strerror(code), folder)
            if size == 0:
                break
            entries += _entries_in(block.raw[:size], folder)
    finally:
        close_own(descriptor, identity)
    return entries


def _entries_in(block: bytes, folder: str) -> Iterator[Entry]:
    begin = 0
    while begin < len(block):
        _, _, length, kind = _HEAD.unpack_from(block, begin)
        name = os.fsdecode(block[begin + _HEAD.size : begin + length].partition(b"\0")[0])
        if name not in (".", ".."):
            yield Entry(name, os.path.join(folder, name), kind)  # noqa: PTH118 - as above
        begin += length
