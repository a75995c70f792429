"""The plain writer: one ``write`` per record on an ``O_APPEND`` descriptor.

Flows in: encoded lines. Flows out: a file. For file systems on which mapped memory is not to be trusted
(network file systems). The system call is made through ``ctypes.PyDLL``, which keeps the GIL: beside one busy
Python thread, ``os.write``, which hands it over, cost the program 700 µs and more for each record.
"""

from __future__ import annotations

import ctypes
import errno
import io
import os
import threading
from collections.abc import Callable

from flowprov.journal.writer import JournalFull

_libc = ctypes.PyDLL(None, use_errno=True)
_libc.write.restype = ctypes.c_ssize_t
_libc.write.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_size_t)


class AppendWriter:
    """Append lines to a descriptor with one system call each.

    Parameters
    ----------
    descriptor
        A file opened for appending (``O_APPEND``); the writer owns it from now on.
    max_bytes
        Size that the file may reach, or None.
    """

    name = "write"

    def __init__(self, descriptor: int, max_bytes: int | None = None) -> None:
        self._descriptor = descriptor
        self._size = os.fstat(descriptor).st_size
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self.fast_append: Callable[[bytes], object] = self.append

    def append(self, line: bytes) -> None:
        """Append one line, whole or not at all.

        Raises
        ------
        JournalFull
            If the disk, the quota or ``max_bytes`` allows no more.
        OSError
            If the write fails for another reason.
        """
        length = len(line)
        with self._lock:
            if self._max_bytes is not None and self._size + length > self._max_bytes:
                raise JournalFull("max_bytes")
            written = _libc.write(self._descriptor, line, length)
            while written == -1 and ctypes.get_errno() == errno.EINTR:
                written = _libc.write(self._descriptor, line, length)
            if written == length:
                self._size += length
                return
            self._take_back(written)

    def _take_back(self, written: int) -> None:
        if self._descriptor < 0:
            # An OSError to whoever appends, a ValueError to the quick way: there is another file by now.
            raise io.UnsupportedOperation("the file is closed")
        code = ctypes.get_errno() if written == -1 else errno.ENOSPC
        if written > 0:
            # Half a record would glue itself to the next one: this process is the file's only writer, so
            # what it has just added can be cut off again.
            os.ftruncate(self._descriptor, self._size)
        if code in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise JournalFull("disk_full")
        raise OSError(code, os.strerror(code))

    def prepare(self) -> None:
        """Do the work that can be done ahead: none."""

    def sync(self) -> None:
        """Flush to the disk what was appended."""
        os.fdatasync(self._descriptor)

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            descriptor, self._descriptor = self._descriptor, -1
            if descriptor >= 0:
                os.close(descriptor)

    def abandon(self) -> None:
        """Let go of a file that belongs to the parent process: nothing in it is touched."""
        self._lock = threading.Lock()
        self.close()
