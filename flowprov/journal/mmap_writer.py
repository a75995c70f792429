"""The mapped writer: one ``mmap.write`` per record into room that was reserved beforehand.

Flows in: encoded lines. Flows out: a file. An append is one C call: atomic under the GIL, no system call, and
what it copied lives in the kernel's page cache, so it survives a SIGKILL.

The file grows by segments: each is reserved with ``posix_fallocate`` (a full disk is an error here, where it
would be a SIGBUS on a hole), touched, mapped and only then used. Segments start small, so that a nearly full
disk still takes one, and double. The next one is made ready by the keeper thread, which also unmaps the last.
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
from flowprov.journal.writer import JournalFull

_PAGE = mmap.ALLOCATIONGRANULARITY
_MADV_POPULATE_WRITE = 23  # Linux 5.14 and later, madvise(2)
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

# CDLL lets go of the GIL during the call; mmap.madvise held it for 758 ms on 256 MB.
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
        Size that the file may reach, or None.
    first, largest
        Sizes of the first and of the largest segment in bytes; rounded up to whole pages.
    on_switch
        Called after a new segment was taken, with the new :attr:`quick`: the time to have :meth:`prepare`
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
        self._switched = (
            False  # most processes never fill their first segment: reserve no second one for them
        )
        self._wanted = first
        self._current = self._make(0, first)
        self._write = self._current.map.write
        # One C call under the GIL; without the GIL it needs the lock.
        self._locked = _without_gil()
        self.fast_append: Callable[[bytes], object] = self.append if self._locked else self._write

    def append(self, line: bytes) -> None:
        """Append one line, whole or not at all.

        Raises
        ------
        JournalFull
            If the disk, the quota or ``max_bytes`` allows no more.
        OSError
            If a new segment cannot be made for another reason.
        """
        with self._lock:
            try:
                self._write(line)
            except ValueError:  # the segment has no room for it, or was retired by another thread just now
                self._append_further(line)

    def _append_further(self, line: bytes) -> None:
        """Append to the next segment; the lock is held."""
        segment = self._take_next(len(line))
        old = self._current
        _fill(old)  # before anything stands behind it: readers take it that nothing comes there any more
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
            segment.map.close()  # too small for this record: its room becomes the beginning of a larger one
        return self._make(start, max(self._wanted, length), at_least=length)

    def _make(self, offset: int, size: int, at_least: int = 1) -> Segment:
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
                if error.errno not in _NO_ROOM:
                    raise
                if size <= least:
                    raise JournalFull("disk_full") from error
                size = max(least, _pages(size // 2))
                continue
            self._wanted = min(size * 2, self._largest)
            return Segment(self._descriptor, offset, size)

    def prepare(self) -> None:
        """Make the next segment ready; unmap those left behind."""
        with self._lock:
            retired, self._retired = self._retired, []
            if self._next is None and self._descriptor >= 0 and self._switched:
                current = self._current
                with contextlib.suppress(
                    JournalFull, OSError
                ):  # met again, and said, when the room is needed
                    self._next = self._make(current.offset + current.size, self._wanted)
        for segment in retired:
            segment.map.close()

    def sync(self) -> None:
        """Flush to the disk what was appended (``fdatasync`` writes mapped pages of the file, too)."""
        os.fdatasync(self._descriptor)

    def close(self) -> None:
        """Cut the file after its last record and close it."""
        with self._lock:
            descriptor, self._descriptor = self._descriptor, -1
            if descriptor < 0:
                return
            current = self._current
            end = current.offset + current.map.tell()
            # A thread that still holds this segment's write must find no room in it: it would come back
            # with SIGBUS once the file is cut.
            current.map.seek(current.size)
            self._unmap()
            os.ftruncate(descriptor, end)
            os.close(descriptor)

    def abandon(self) -> None:
        """Let go of a file that belongs to the parent process: nothing in it is touched."""
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
    """Give up the rest of a segment as a blank line, so that the file stays plain JSON Lines."""
    while (rest := segment.size - segment.map.tell()) > 0:
        with contextlib.suppress(ValueError):  # another thread was quicker with a last record: look again
            segment.map.write(padding_line(rest))


def _touch(mapped: mmap.mmap, size: int) -> None:
    """Let the kernel make the pages now: a first touch on the hot path costs more than the append itself."""
    with contextlib.suppress(TypeError, ValueError, BufferError):
        view = (ctypes.c_char * size).from_buffer(mapped)
        done = _libc.madvise(ctypes.byref(view), ctypes.c_size_t(size), _MADV_POPULATE_WRITE) == 0
        del view  # a map with exported views cannot be closed
        if done:
            return
    for position in range(0, size, _PAGE):
        mapped[position] = 0


def _without_gil() -> bool:
    enabled = getattr(sys, "_is_gil_enabled", None)
    return enabled is not None and not enabled()
