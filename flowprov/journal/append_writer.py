"""The append writer: one ``write`` per record on an ``O_APPEND`` descriptor.

Flows in: encoded lines. Flows out: a file. This writer is for file systems on which mapped memory cannot be
trusted, such as network file systems. It makes the system call through ``ctypes.PyDLL``, which keeps the GIL.
``os.write`` releases the GIL: beside one busy Python thread it cost the program 700 µs and more per record.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import io
import mmap
import os
import threading
from collections.abc import Callable

from flowprov.journal.format import padding_line
from flowprov.journal.write_failures import JournalFull
from flowprov.journal.writer import Writer

_PAGE = mmap.ALLOCATIONGRANULARITY
_libc = ctypes.PyDLL(None, use_errno=True)
_libc.write.restype = ctypes.c_ssize_t
_libc.write.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_size_t)


class AppendWriter:
    """Append lines to a file with one system call each.

    Parameters
    ----------
    file
        A file opened for reading and writing; the writer owns it from now on.
    max_bytes
        Largest size of the file in bytes; None for no limit.

    Attributes
    ----------
    lock
        Whoever holds it keeps others from appending.
    """

    name = "write"

    def __init__(self, file: io.FileIO, max_bytes: int | None = None) -> None:
        self._file = file
        self._descriptor = file.fileno()
        fcntl.fcntl(file, fcntl.F_SETFL, fcntl.fcntl(file, fcntl.F_GETFL) | os.O_APPEND)
        self._size = os.fstat(self._descriptor).st_size
        self._max_bytes = max_bytes
        # A signal handler of the program may record an event while this thread is in append().
        self.lock = threading.RLock()
        self.fast_append: Callable[[bytes], object] = self.append

    def append(self, line: bytes) -> None:
        """Append one line, whole or not at all.

        Raises
        ------
        JournalFull
            If the disk is full, or the quota or ``max_bytes`` is reached.
        OSError
            If the write fails for another reason.
        """
        length = len(line)
        with self.lock:
            if self._max_bytes is not None and self._size + length > self._max_bytes:
                raise JournalFull("max_bytes")
            try:
                written = _libc.write(self._descriptor, line, length)
                while written == -1 and ctypes.get_errno() == errno.EINTR:
                    written = _libc.write(self._descriptor, line, length)
                if written != length:
                    self._raise_failed(written)
                self._size += length
            except BaseException:  # an exception from outside may arrive behind the system call
                if self._descriptor >= 0:
                    self._cut_torn_line()
                raise

    def _raise_failed(self, written: int) -> None:
        if self._descriptor < 0:
            # UnsupportedOperation is an OSError for callers of append(), and a ValueError for callers of
            # fast_append, which then call append(): the journal may have another file by now.
            raise io.UnsupportedOperation("the file is closed")
        code = ctypes.get_errno() if written == -1 else errno.ENOSPC
        if code in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise JournalFull("disk_full")
        raise OSError(code, os.strerror(code))

    def _cut_torn_line(self) -> None:
        """Cut off half a line at the end: the next record would follow it on the same line.

        This process is the only writer of the file, so it may cut off what it has just added.
        """
        size = os.fstat(self._descriptor).st_size
        added = os.pread(self._descriptor, max(0, size - self._size), self._size)
        whole = size - (len(added) - added.rfind(b"\n") - 1)
        if whole < size:
            os.ftruncate(self._descriptor, whole)
        self._size = whole

    def end(self) -> int:
        """Return the offset behind the last line."""
        return os.fstat(self._descriptor).st_size

    def is_cut(self) -> bool:
        """Whether somebody else has cut the file."""
        size = self._size  # before the size of the file: another thread may be appending
        return self.end() < size

    def map_again(self, create: Callable[[io.FileIO, int], Writer]) -> Writer:
        """Hand the file over to another writer, if that can be created; else go on as before.

        Parameters
        ----------
        create
            Creates the writer, for the file and the offset at which it may begin.
        """
        with self.lock:
            end = self.end()
            begin = -(-end // _PAGE) * _PAGE
            if begin > end:
                self.append(padding_line(begin - end))
            flags = fcntl.fcntl(self._file, fcntl.F_GETFL)
            fcntl.fcntl(self._file, fcntl.F_SETFL, flags & ~os.O_APPEND)
            try:
                new = create(self._file, begin)
            except BaseException:  # raised on; the file goes on as it was, whatever came
                os.ftruncate(self._descriptor, begin)
                fcntl.fcntl(self._file, fcntl.F_SETFL, flags)
                raise
            self._descriptor = -1
            return new

    def read(self, length: int, offset: int) -> bytes:
        """Return bytes of the file."""
        return os.pread(self._descriptor, length, offset)

    def prepare(self) -> None:
        """Do nothing: this writer has no work that could be done ahead."""

    def sync(self) -> None:
        """Flush all appended lines to the disk."""
        os.fdatasync(self._descriptor)

    def close(self) -> None:
        """Close the file."""
        with self.lock:
            if self._descriptor >= 0:
                self._descriptor = -1
                self._file.close()

    def abandon(self) -> None:
        """Close the descriptor in a forked child; the file belongs to the parent and stays as it is."""
        self.lock = threading.RLock()
        self.close()
