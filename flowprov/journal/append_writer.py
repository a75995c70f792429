"""The append writer: one ``write`` per record on an ``O_APPEND`` descriptor.

Flows in: encoded lines. Flows out: a file. Nothing that happens to the file can harm the program: what
somebody cuts, what a disk refuses and what a device loses is an error of a call. The writer makes its system
calls through ``ctypes.PyDLL``, which keeps the GIL. ``os.write`` releases the GIL: beside one busy Python
thread it cost the program 700 µs and more per record.

Before each write the mark of the file is read (see ``own_file``): the program may have closed the descriptor,
and a file of its own may have the number.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import io
import mmap
import os
import threading
from collections.abc import Callable

from flowprov.journal.format import padding_line
from flowprov.journal.interruptions import pass_on
from flowprov.journal.own_file import OwnFile
from flowprov.journal.write_failures import JournalFull
from flowprov.journal.writer import NO_LIMITS, SizeLimits, Writer
from flowprov.locks import is_held_here

_PAGE = mmap.ALLOCATIONGRANULARITY
# Without argtypes a call takes 0.3 µs less: bytes go as they are, and integers as those of 32 bits, which are
# extended in registers.
_write = ctypes.PyDLL(None).write
_write_without_gil = ctypes.CDLL(None).write


class AppendWriter:
    """Append lines to a file with one system call each.

    Parameters
    ----------
    file
        The file; the writer owns it from now on.
    limits
        How large the file may become.
    keep_gil
        Whether to keep the GIL during a write.

    Attributes
    ----------
    lock
        Whoever holds it keeps others from appending.
    """

    name = "write"

    def __init__(self, file: OwnFile, limits: SizeLimits = NO_LIMITS, *, keep_gil: bool = True) -> None:
        self._file = file
        self._number = file.fileno()
        self._mark: int | None = file.mark  # None when the file is closed
        self._read_mark = file.mark_reader()
        fcntl.fcntl(file, fcntl.F_SETFL, fcntl.fcntl(file, fcntl.F_GETFL) | os.O_APPEND)
        self._size = os.fstat(self._number).st_size
        self._write = _write if keep_gil else _write_without_gil
        self.limits = limits
        # A signal handler of the program may record an event while this thread is in append().
        self.lock = threading.RLock()
        self.fast_append: Callable[[bytes], object] = self.append

    def append(self, line: bytes) -> None:
        """Append one line, whole or not at all.

        Raises
        ------
        JournalFull
            If the disk is full, or the quota or the largest size is reached.
        FileGrown
            If it is time for a next file.
        FileTaken
            If the program has closed the descriptor.
        OSError
            If the write fails for another reason.
        """
        with self.lock:
            length = len(line)
            if self._size + length > self._limit:
                raise self._limits.reason(self._size + length)
            try:
                if self._read_mark() != self._mark or self._write(self._number, line, length) != length:
                    self._append_again(line)
                self._size += length
            except BaseException:  # an exception from outside may arrive behind the system call
                if self._mark is not None:
                    self._try_to_cut_torn_line()
                raise

    def _append_again(self, line: bytes) -> None:
        """Append a line that a write did not take as a whole, or find out why not."""
        if self._mark is None:
            # UnsupportedOperation is an OSError for callers of append(), and a ValueError for callers of
            # fast_append, which then call append(): the journal may have another file by now.
            raise io.UnsupportedOperation("the file is closed")
        number = self._file.fileno()
        self._cut_torn_line()
        try:
            written = os.write(number, line)
            if written != len(line):  # asked for the rest, the system says why
                written += os.write(number, line[written:])
        except OSError as error:
            pass_on(error)
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                raise JournalFull("disk_full") from error
            raise
        if written != len(line):
            raise JournalFull("disk_full")

    def _try_to_cut_torn_line(self) -> None:
        try:
            self._cut_torn_line()
        except OSError as error:  # what made the append fail is raised, and not this
            pass_on(error)

    def _cut_torn_line(self) -> None:
        """Cut off half a line at the end: the next record would follow it on the same line.

        This process is the only writer of the file, so it may cut off what it has just added.
        """
        number = self._file.fileno()
        size = os.fstat(number).st_size
        if size < self._size:
            return  # somebody has cut the file: see is_cut
        added = os.pread(number, size - self._size, self._size)
        whole = size - (len(added) - added.rfind(b"\n") - 1)
        if whole < size:
            os.ftruncate(number, whole)
        self._size = whole

    @property
    def limits(self) -> SizeLimits:
        """How large the file may become."""
        return self._limits

    @limits.setter
    def limits(self, limits: SizeLimits) -> None:
        self._limits, self._limit = limits, limits.lowest()

    def holding_others(self) -> contextlib.AbstractContextManager[object]:
        """Return a context in which no other thread appends."""
        return self.lock

    @property
    def size(self) -> int:
        """Return the offset behind the last line, as this writer counts it."""
        return self._size

    def end(self) -> int:
        """Return the offset behind the last line."""
        return os.fstat(self._file.fileno()).st_size

    def is_appending(self) -> bool:
        """Whether this thread is in the middle of an append, and holds a lock for it."""
        return is_held_here(self.lock)

    def is_cut(self) -> bool:
        """Whether somebody else has cut the file."""
        size = self._size  # before the size of the file: another thread may be appending
        return self.end() < size

    def map_again(self, create: Callable[[OwnFile, int], Writer]) -> Writer:
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
                os.ftruncate(self._file.fileno(), begin)
                fcntl.fcntl(self._file, fcntl.F_SETFL, flags)
                raise
            self._mark = None
            return new

    def read(self, length: int, offset: int) -> bytes:
        """Return bytes of the file."""
        return os.pread(self._file.fileno(), length, offset)

    def prepare(self) -> None:
        """Do nothing: this writer has no work that could be done ahead."""

    def sync(self) -> None:
        """Flush all appended lines to the disk."""
        os.fdatasync(self._file.fileno())

    def close(self) -> None:
        """Close the file."""
        with self.lock:
            if self._mark is not None:
                self._mark = None
                self._file.close()

    def abandon(self) -> None:
        """Close the descriptor in a forked child; the file belongs to the parent and stays as it is."""
        self.lock = threading.RLock()
        self.close()
