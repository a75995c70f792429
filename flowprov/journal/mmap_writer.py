"""The mapped writer: one ``mmap.write`` per record into a segment that was reserved beforehand.

Flows in: encoded lines. Flows out: a file. An append is one C call. It is atomic under the GIL and makes no
system call. The copied bytes lie in the kernel's page cache, so they survive a SIGKILL.

The file grows by segments. Each one is reserved with ``posix_fallocate``, mapped and touched before its use:
a full disk is an error there, and would be a SIGBUS on a hole in the file. Segments start small, so that a
nearly full disk still takes one, and double in size. The maintenance thread prepares the next one and unmaps
old ones.

What this cannot prevent: if somebody cuts the file between two looks at it, or if its device or file system
fails, the next write to a page that is gone raises SIGBUS, which ends the process. The file is looked at
before each segment, workflow and heartbeat, and its mode lets nobody but root open it for writing. Nobody is
given this writer who did not ask for it.

A signal handler of the program may run between any two instructions here. It may raise: each step leaves a
state from which the next append goes on. It may record an event of its own: the locks are reentrant, and a
step looks whether another has changed the segment meanwhile.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import io
import mmap
import os
import stat
import sys
import threading
from collections.abc import Callable

from flowprov.journal.append_writer import AppendWriter
from flowprov.journal.format import padding_line
from flowprov.journal.interruptions import pass_on
from flowprov.journal.own_file import OwnFile, map_shared
from flowprov.journal.write_failures import FileCut, FileGrown, JournalFull
from flowprov.journal.writer import NO_LIMITS, SizeLimits
from flowprov.locks import is_held_here

FIRST_SEGMENT = 64 * 1024  # bytes
_PAGE = mmap.ALLOCATIONGRANULARITY
_BLOCK = 512  # bytes that st_blocks counts, stat(2)
_MADV_POPULATE_WRITE = 23  # Linux 5.14 and later, madvise(2)
_WRITABLE = stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH
_CLOSED = "the file is closed"
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

# CDLL releases the GIL during the call; mmap.madvise held it for 758 ms on 256 MB.
_libc = ctypes.CDLL(None, use_errno=True)


class Segment:
    """A mapped part of the file: ``offset`` to ``offset + size``."""

    __slots__ = ("map", "offset", "size")

    def __init__(self, number: int, offset: int, size: int) -> None:
        self.offset = offset
        self.size = size
        self.map = map_shared(number, size, offset)
        _touch(self.map, size)


class MmapWriter:
    """Append lines to a file through mapped memory.

    Parameters
    ----------
    file
        The file; the writer owns it from now on.
    limits
        How large the file may become.
    begin
        Offset of the first segment: 0, or a whole number of pages, for a file that has content.
    first, largest
        Sizes of the first and of the largest segment in bytes; rounded up to whole pages.

    Attributes
    ----------
    fast_append
        Changes when a new segment is in use; :meth:`prepare` should then be called from another thread.
    """

    name = "mapped"

    def __init__(
        self,
        file: OwnFile,
        limits: SizeLimits = NO_LIMITS,
        *,
        begin: int = 0,
        first: int = FIRST_SEGMENT,
        largest: int = 4 << 20,
    ) -> None:
        self._file = file
        self._closed = self._handed_over = False
        self._cut_at: int | None = None
        self.limits = limits
        self._largest = largest
        self._lock = threading.RLock()
        self._next: Segment | None = None
        self._retired: list[Segment] = []
        # Most processes never fill their first segment: reserve no second one before they do.
        self._switched = False
        self._next_size = first
        self._current = self._create_segment(begin, first)
        self._write = self._current.map.write
        self._counts_blocks = _has_all_blocks(os.fstat(file.fileno()))
        _set_writable(file, writable=False)
        # One C call under the GIL; without the GIL it needs the lock.
        self._locked = _without_gil()
        self.fast_append: Callable[[bytes], object] = self.append if self._locked else self._write

    def append(self, line: bytes) -> None:
        """Append one line, whole or not at all.

        Raises
        ------
        JournalFull
            If the disk is full, or the quota or the largest size is reached.
        FileGrown
            If it is time for a next file.
        FileTaken
            If a new segment is needed, and the program has closed the descriptor.
        OSError
            If a new segment cannot be created for another reason.
        FileCut
            If somebody else has cut the file.
        """
        with self._lock:
            while True:
                try:
                    self._write(line)
                except ValueError as error:  # noqa: PERF203 - once per segment
                    # The line does not fit, or another thread has just retired the segment.
                    pass_on(error)
                    self._switch(len(line))
                else:
                    return

    def _switch(self, length: int) -> None:
        """Write into the next segment from now on; the caller holds the lock."""
        old, segment = self._current, self._next
        if self._closed:
            raise io.UnsupportedOperation(_CLOSED)  # as the append writer does
        if segment is None or segment.size < length:
            # In the place of one that is too small for this record.
            size = max(self._next_size, length)
            segment = self._create_segment(old.offset + old.size, size, at_least=length)
            if self._current is not old:
                return  # a signal handler recorded an event meanwhile, in a segment of the same offset
            self._next = segment
        self._refuse_if_cut()
        _fill(old)  # before a record stands behind it: readers rely on padding before a record to stay empty
        write = segment.map.write
        if self._current is not old:
            return  # as above
        if self._closed:  # a signal handler recorded an event meanwhile, which goes on in a next file
            raise io.UnsupportedOperation(_CLOSED)
        # No call until the end: an exception from outside finds all of this done or nothing.
        self._current, self._next, self._write, self._switched = segment, None, write, True
        self._retired += [old]
        if not self._locked:
            self.fast_append = write

    def _create_segment(self, offset: int, size: int, at_least: int = 1) -> Segment:
        """Reserve and map a segment; on a nearly full disk a smaller one, down to a page."""
        size, least = _pages(size), _pages(at_least)
        largest = self.limits.lowest()
        while True:
            try:
                if offset + size > largest:
                    if size > least:
                        size = max(least, _pages(size // 2))
                        continue
                    raise self.limits.reason(offset + size)
                number = self._file.fileno()
                if self._closed:  # no call until the next: the file of a closed writer grows no more
                    raise io.UnsupportedOperation(_CLOSED)
                os.posix_fallocate(number, offset, size)
            except OSError as error:
                pass_on(error)
                if error.errno not in _NO_SPACE:
                    raise
                if size <= least:
                    raise JournalFull("disk_full") from error
                size = max(least, _pages(size // 2))
                continue
            self._next_size = min(size * 2, self._largest)
            return Segment(self._file.fileno(), offset, size)

    def prepare(self) -> None:
        """Reserve and map the next segment; unmap those that are full."""
        with self._lock:
            retired, self._retired = self._retired, []
            if self._next is None and not self._closed and self._switched:
                current = self._current
                # The append that needs the segment meets the error again, and reports it.
                with contextlib.suppress(JournalFull, FileGrown, OSError):
                    self._next = self._create_segment(current.offset + current.size, self._next_size)
        for segment in retired:
            segment.map.close()

    def end(self) -> int:
        """Return the offset behind the last line."""
        current = self._current
        if current.map.closed:  # by a call that was interrupted
            return os.fstat(self._file.fileno()).st_size
        return current.offset + current.map.tell()

    def is_appending(self) -> bool:
        """Whether this thread is in the middle of an append, and holds a lock for it."""
        return is_held_here(self._lock)

    def is_cut(self) -> bool:
        """Whether somebody else has cut the file, or taken blocks out of it.

        Writing to a page behind its end kills the process. So does writing to a page without a block when the
        disk is full.
        """
        last = self._next or self._current
        status = os.fstat(self._file.fileno())
        if status.st_size < last.offset + last.size:
            return True
        return self._counts_blocks and not _has_all_blocks(status)

    def _refuse_if_cut(self) -> None:
        if self.is_cut():
            raise FileCut

    def write_plainly(self) -> AppendWriter:
        """Hand the file over to a writer that needs neither memory nor descriptors."""
        with self._lock:
            # First of all: an append behind an interrupted call would map a segment behind a gap. It finds
            # the writer closed, and this is called again.
            self._closed = True
            self._cut_padding()
            plain = AppendWriter(self._file, self.limits)
            self._handed_over = True
            return plain

    def read(self, length: int, offset: int) -> bytes:
        """Return bytes of the file; NUL bytes where nothing is written yet."""
        return os.pread(self._file.fileno(), length, offset)

    def sync(self) -> None:
        """Flush all appended lines to the disk (``fdatasync`` writes mapped pages of the file, too)."""
        os.fdatasync(self._file.fileno())

    def close(self) -> None:
        """Cut the file after its last record and close it."""
        with self._lock:
            if not self._handed_over:
                self._closed = True
                self._cut_padding()
                self._file.close()

    def _cut_padding(self) -> None:
        ours = self._file.is_ours()
        if ours:
            _set_writable(self._file, writable=True)
        if not self._current.map.closed and ours and not self.is_cut():
            # Another thread may still hold the write method of this segment. It must find the segment full: a
            # write behind the end of the cut file is a SIGBUS.
            self._cut_at = _fill(self._current)
        self._unmap()
        if self._cut_at is not None and ours:  # else an interrupted call has cut it
            os.ftruncate(self._file.fileno(), self._cut_at)
            self._cut_at = None

    def abandon(self) -> None:
        """Close the file in a forked child; it belongs to the parent and stays as it is."""
        self._lock = threading.RLock()
        self._unmap()
        if not self._closed:
            self._closed = True
            self._file.close()

    def _unmap(self) -> None:
        for segment in (*self._retired, self._next, self._current):
            if segment is not None:
                segment.map.close()
        self._retired, self._next = [], None


def _set_writable(file: OwnFile, *, writable: bool) -> None:
    """Let others write to the file, or not: who cuts a mapped file kills the process at its next write."""
    mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
    with contextlib.suppress(PermissionError):  # a file system without modes
        os.fchmod(file.fileno(), mode | stat.S_IWUSR if writable else mode & ~_WRITABLE)


def _has_all_blocks(status: os.stat_result) -> bool:
    """Whether a file has a block for each of its bytes; some file systems count none before they write."""
    return status.st_blocks * _BLOCK >= status.st_size


def _pages(size: int) -> int:
    return -(-size // _PAGE) * _PAGE


def _fill(segment: Segment) -> int:
    """Fill the unused end of a segment with a blank line, so that the file stays plain JSON Lines.

    Returns
    -------
    int
        The offset in the file behind the last record.
    """
    if segment.map.closed:
        return segment.offset + segment.size
    while (unused := segment.size - segment.map.tell()) > 0:
        try:
            segment.map.write(padding_line(unused))
        except ValueError as error:  # noqa: PERF203 - another thread has just appended a record: look again
            pass_on(error)
        else:
            break
    return segment.offset + segment.size - unused


def _touch(mapped: mmap.mmap, size: int) -> None:
    """Have the kernel create the pages now: a first touch on the hot path costs more than an append."""
    try:
        view = (ctypes.c_char * size).from_buffer(mapped)
        done = _libc.madvise(ctypes.byref(view), ctypes.c_size_t(size), _MADV_POPULATE_WRITE) == 0
        del view  # a map cannot be closed while a view of it exists
        if done:
            return
    except (TypeError, ValueError, BufferError) as error:
        pass_on(error)
    for position in range(0, size, _PAGE):
        mapped[position] = mapped[position]  # another map of these pages may be in use already


def _without_gil() -> bool:
    enabled = getattr(sys, "_is_gil_enabled", None)
    return enabled is not None and not enabled()
