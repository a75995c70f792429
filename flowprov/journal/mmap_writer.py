"""The mapped writer: one ``mmap.write`` per record into a segment that was reserved beforehand.

Flows in: encoded lines. Flows out: a file. An append is one C call. It is atomic under the GIL and makes no
system call. The copied bytes lie in the kernel's page cache, so they survive a SIGKILL.

The file grows by segments. Each one is reserved with ``posix_fallocate``, mapped and touched before its use:
a full disk is an error there, and would be a SIGBUS on a hole in the file. Segments start small, so that a
nearly full disk still takes one, and double in size. The maintenance thread prepares the next one and unmaps
old ones.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import mmap
import os
import sys
import threading
from collections.abc import Callable

from flowprov.journal.format import padding_line
from flowprov.journal.write_failures import JournalFull

_PAGE = mmap.ALLOCATIONGRANULARITY
_MADV_POPULATE_WRITE = 23  # Linux 5.14 and later, madvise(2)
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

# CDLL releases the GIL during the call; mmap.madvise held it for 758 ms on 256 MB.
_libc = ctypes.CDLL(None, use_errno=True)


class Segment:
    """A mapped part of the file: ``offset`` to ``offset + size``."""

    __slots__ = ("map", "offset", "size")

    def __init__(self, descriptor: int, offset: int, size: int) -> None:
        self.offset = offset
        self.size = size
        self.map = mmap.mmap(descriptor, size, offset=offset)
        _touch(self.map, size)


class MmapWriter:
    """Append lines to a file through mapped memory.

    Parameters
    ----------
    descriptor
        A file opened for reading and writing; the writer owns it from now on.
    max_bytes
        Largest size of the file in bytes; None for no limit.
    first, largest
        Sizes of the first and of the largest segment in bytes; rounded up to whole pages.
    on_switch
        Called with the new :attr:`fast_append` when a new segment is in use; :meth:`prepare` should then be
        called from another thread.
    """

    name = "mapped"

    def __init__(
        self,
        descriptor: int,
        max_bytes: int | None = None,
        *,
        first: int = 64 * 1024,
        largest: int = 4 << 20,
        on_switch: Callable[[Callable[[bytes], object]], None] | None = None,
    ) -> None:
        self._descriptor = descriptor
        self._max_bytes = max_bytes
        self._largest = largest
        self._on_switch = on_switch
        self._lock = threading.Lock()
        self._next: Segment | None = None
        self._retired: list[Segment] = []
        # Most processes never fill their first segment: reserve no second one before they do.
        self._switched = False
        self._next_size = first
        self._current = self._create_segment(0, first)
        self._write = self._current.map.write
        # One C call under the GIL; without the GIL it needs the lock.
        self._locked = _without_gil()
        self.fast_append: Callable[[bytes], object] = self.append if self._locked else self._write

    def append(self, line: bytes) -> None:
        """Append one line, whole or not at all.

        Raises
        ------
        JournalFull
            If the disk is full, or the quota or ``max_bytes`` is reached.
        OSError
            If a new segment cannot be created for another reason.
        """
        with self._lock:
            try:
                self._write(line)
            except ValueError:  # the line does not fit, or another thread has just retired the segment
                self._append_to_next(line)

    def _append_to_next(self, line: bytes) -> None:
        """Append to the next segment; the caller holds the lock."""
        segment = self._take_next(len(line))
        old = self._current
        _fill(old)  # before a record stands behind it: readers rely on padding before a record to stay empty
        self._current = segment
        self._write = segment.map.write
        if not self._locked:
            self.fast_append = self._write
        self._retired.append(old)
        self._switched = True
        segment.map.write(line)
        if self._on_switch is not None:
            self._on_switch(self.fast_append)

    def _take_next(self, length: int) -> Segment:
        segment, self._next = self._next, None
        if segment is not None and segment.size >= length:
            return segment
        start = self._current.offset + self._current.size
        if segment is not None:
            segment.map.close()  # too small for this record: a larger segment begins at the same offset
        return self._create_segment(start, max(self._next_size, length), at_least=length)

    def _create_segment(self, offset: int, size: int, at_least: int = 1) -> Segment:
        """Reserve and map a segment; on a nearly full disk a smaller one, down to a page."""
        size, least = _pages(size), _pages(at_least)
        while True:
            try:
                if self._max_bytes is not None and offset + size > self._max_bytes:
                    if size > least:
                        size = max(least, _pages(size // 2))
                        continue
                    raise JournalFull("max_bytes")
                os.posix_fallocate(self._descriptor, offset, size)
            except OSError as error:
                if error.errno not in _NO_SPACE:
                    raise
                if size <= least:
                    raise JournalFull("disk_full") from error
                size = max(least, _pages(size // 2))
                continue
            self._next_size = min(size * 2, self._largest)
            return Segment(self._descriptor, offset, size)

    def prepare(self) -> None:
        """Reserve and map the next segment; unmap those that are full."""
        with self._lock:
            retired, self._retired = self._retired, []
            if self._next is None and self._descriptor >= 0 and self._switched:
                current = self._current
                # The append that needs the segment meets the error again, and reports it.
                with contextlib.suppress(JournalFull, OSError):
                    self._next = self._create_segment(current.offset + current.size, self._next_size)
        for segment in retired:
            segment.map.close()

    def sync(self) -> None:
        """Flush all appended lines to the disk (``fdatasync`` writes mapped pages of the file, too)."""
        os.fdatasync(self._descriptor)

    def close(self) -> None:
        """Cut the file after its last record and close it."""
        with self._lock:
            descriptor, self._descriptor = self._descriptor, -1
            if descriptor < 0:
                return
            current = self._current
            end = current.offset + current.map.tell()
            # Another thread may still hold the write method of this segment. It must find the segment full:
            # a write behind the end of the cut file is a SIGBUS.
            current.map.seek(current.size)
            self._unmap()
            os.ftruncate(descriptor, end)
            os.close(descriptor)

    def abandon(self) -> None:
        """Close the file in a forked child; it belongs to the parent and stays as it is."""
        self._lock = threading.Lock()
        descriptor, self._descriptor = self._descriptor, -1
        self._unmap()
        if descriptor >= 0:
            os.close(descriptor)

    def _unmap(self) -> None:
        for segment in (*self._retired, self._next, self._current):
            if segment is not None:
                segment.map.close()
        self._retired, self._next = [], None


def _pages(size: int) -> int:
    return -(-size // _PAGE) * _PAGE


def _fill(segment: Segment) -> None:
    """Fill the unused end of a segment with a blank line, so that the file stays plain JSON Lines."""
    while (unused := segment.size - segment.map.tell()) > 0:
        with contextlib.suppress(ValueError):  # another thread has just appended a record: look again
            segment.map.write(padding_line(unused))


def _touch(mapped: mmap.mmap, size: int) -> None:
    """Have the kernel create the pages now: a first touch on the hot path costs more than an append."""
    with contextlib.suppress(TypeError, ValueError, BufferError):
        view = (ctypes.c_char * size).from_buffer(mapped)
        done = _libc.madvise(ctypes.byref(view), ctypes.c_size_t(size), _MADV_POPULATE_WRITE) == 0
        del view  # a map cannot be closed while a view of it exists
        if done:
            return
    for position in range(0, size, _PAGE):
        mapped[position] = 0


def _without_gil() -> bool:
    enabled = getattr(sys, "_is_gil_enabled", None)
    return enabled is not None and not enabled()
