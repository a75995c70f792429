"""A file that is known by more than the number of its descriptor, and memory that keeps no number at all.

Flows in: a path. Flows out: a number that stands for this file, or :class:`FileTaken`.

The program may close any descriptor: programs that become daemons close them all. The number then stands for
nothing, and soon for a file of the program. So a number is compared with what is known of the file before
anything is written, cut or closed under it: device and inode, and a mark that the open file carries.

Before each write only the mark is read (see :mod:`flowprov.file_marks`). ``fstat`` takes five times as long
between two writes: since Linux 6.13 it has each next write of the file store a finer time.

Between the look at the mark and the write, another thread may close the descriptor. So the numbers are high:
the system gives a program the lowest ones that are free, and ours to nobody by chance.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import functools
import io
import itertools
import mmap
import os
import resource
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from flowprov.file_marks import has_mark, mark_reader, set_mark
from flowprov.journal.interruptions import pass_on

_MAP_FIXED = 0x10  # mmap(2); Python has no name for it
_HIGH = 512
_next_number = itertools.count().__next__

_libc = ctypes.CDLL(None, use_errno=True)
_mmap: Any = _libc.mmap64 if hasattr(_libc, "mmap64") else _libc.mmap
_mmap.restype = ctypes.c_void_p
_mmap.argtypes = (
    ctypes.c_void_p,
    ctypes.c_size_t,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_int64,
)


class FileTaken(OSError):  # noqa: N818 - part of normal work
    """The program has closed a descriptor of ours; its number may stand for another file by now."""

    def __init__(self, path: object) -> None:
        super().__init__(errno.EBADF, "somebody has closed the file", str(path))


class _MarkedFile(io.FileIO):
    """An open file that its finalizer closes, as long as it is new.

    Attributes
    ----------
    identity
        Device and inode; None until they are known.
    mark
        What the open file is marked with; None where files take no marks.
    """

    identity: tuple[int, int] | None = None
    mark: int | None = None
    _lost = False
    # The finalizer of a FileIO warns of a file that is open, and looks for signals meanwhile: what a handler
    # raises there is lost. It warns if FileIO's attribute is set; here it sets that of the instance.
    _finalizing = False

    def identify(self) -> None:
        """Remember what the file is, and mark it."""
        number = super().fileno()
        self.mark = set_mark(number)
        self.identity = _identity(number)

    def stands(self) -> bool:
        """Whether the number stands for this file; once it did not, it never does again."""
        if self._lost or self.closed:
            return False
        number = super().fileno()
        try:
            same = _identity(number) == self.identity
            same = same and has_mark(number, self.mark)
        except OSError as error:
            pass_on(error)
            same = False
        self._lost = not same
        return same

    def release(self) -> None:
        """Close the file, unless the number stands for another one."""
        if self.identity is None or self.stands():
            io.FileIO.close(self)


class _KeptFile(_MarkedFile):
    """An open file that no finalizer closes: its number may stand for a file of the program by then.

    A finalizer in Python could look at the number. But what a signal handler raises there is lost.
    """

    close: Any = dict  # any function without Python code will do


class OwnFile:
    """A file that flowprov has opened for reading and writing.

    Parameters
    ----------
    path
        Its path.
    mode
        "x+" creates the file, "r+" opens one that exists.
    permissions
        The mode of a new file.

    Attributes
    ----------
    path
        Its path.

    Raises
    ------
    OSError
        If the file cannot be opened.
    """

    def __init__(self, path: Path, mode: str = "x+", permissions: int = 0o644) -> None:
        self.path = path
        self._handle = _open(path, mode, functools.partial(os.open, mode=permissions))

    def keep(self) -> None:
        """Have the file closed by :meth:`close` alone, once somebody is there who will call that."""
        self._handle.__class__ = _KeptFile

    def is_ours(self) -> bool:
        """Whether the descriptor still stands for this file."""
        return self._handle.stands()

    def fileno(self) -> int:
        """Return the number of the descriptor.

        Raises
        ------
        FileTaken
            If it does not stand for this file any more.
        """
        if not self._handle.stands():
            raise FileTaken(self.path)
        return self._handle.fileno()

    @property
    def mark(self) -> int:
        """Return what the function that :meth:`mark_reader` returns gives while the file is ours."""
        return self._handle.mark or 1

    def mark_reader(self) -> Callable[[], int]:
        """Return a function that reads the mark of what the number stands for now, in one quick call."""
        if self._handle.mark is None:
            return self._handle.stands  # False is 0, True is 1
        return mark_reader(self._handle.fileno())

    def reopen(self) -> bool:
        """Open the file again if the descriptor was lost; return False if the file is not under its path."""
        if self.is_ours():
            return True
        known = self._handle.identity
        try:
            _allow_writing(self.path, known)
            handle = _open(self.path, "r+", _open_to_append)
        except OSError as error:
            pass_on(error)
            return False
        if handle.identity != known:
            return False
        self._handle = handle
        self.keep()
        return True

    def close(self) -> None:
        """Close the file, unless the number stands for another one."""
        self._handle.release()


def _open(path: Path, mode: str, opener: Callable[[str, int], int]) -> _MarkedFile:
    """Open a file under a high number, and learn what it is."""
    # Opening calls no Python code: where it is interrupted there is no descriptor, or the handle has it.
    # The name is no path, as a finalizer that warns shows it: str() of a path is Python code.
    handle = _MarkedFile(str(path), mode, opener=opener)
    try:
        high = _MarkedFile(fcntl.fcntl(handle, fcntl.F_DUPFD_CLOEXEC, _lowest_number()), "r+")
    except OSError as error:  # no more numbers
        pass_on(error)
    else:
        handle.close()
        handle = high
    handle.identify()
    return handle


def _lowest_number() -> int:
    """Return a number from which to look for a free one: another one each time, so that none comes back."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    half = min(limit // 2, _HIGH) if limit > 0 else _HIGH
    return half + _next_number() % max(1, half // 2)


def _open_to_append(path: str, flags: int) -> int:
    # A thread may be in the middle of an append: that goes to the end of the file then, not over its header.
    return os.open(path, flags | os.O_NOFOLLOW | os.O_APPEND)


def _allow_writing(path: Path, identity: tuple[int, int] | None) -> None:
    """Let the owner open a file for writing: a mapped journal is read-only."""
    status = path.lstat()
    if (status.st_dev, status.st_ino) == identity and not status.st_mode & stat.S_IWUSR:
        path.chmod(stat.S_IMODE(status.st_mode) | stat.S_IWUSR)


def _identity(number: int) -> tuple[int, int]:
    status = os.fstat(number)
    return status.st_dev, status.st_ino


def map_shared(number: int, size: int, offset: int = 0) -> mmap.mmap:
    """Map a part of a file, for reading and writing, and keep no descriptor.

    ``mmap.mmap`` keeps a copy of the descriptor, and closes its number in the end, whatever that stands for.
    Python 3.13 can do without. Before, the file is mapped over memory that belongs to no file.

    Raises
    ------
    OSError
        If there is no memory for it, or the file cannot be mapped.
    """
    if sys.version_info >= (3, 13):
        return mmap.mmap(number, size, offset=offset, trackfd=False)
    memory = mmap.mmap(-1, size)
    first = ctypes.c_char.from_buffer(memory)
    address = ctypes.addressof(first)
    del first  # a map cannot be closed while a view of it exists
    access = mmap.PROT_READ | mmap.PROT_WRITE
    if _mmap(address, size, access, mmap.MAP_SHARED | _MAP_FIXED, number, offset) != address:
        code = ctypes.get_errno()
        memory.close()
        raise OSError(code, os.strerror(code))
    return memory
