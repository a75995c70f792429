"""The contents of files that were read before, by what the file system says of them.

Flows in: the status of a file. Flows out: its content, if the file is certainly the same.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict

from flowprov.contents.content import Content
from flowprov.contents.reading import Reading

_MAX_FILES = 1_000
_MAX_TENSORS = 200_000  # digests that are held in all
# A file may change twice within one tick of the clock of its file system.
_SETTLED_NS = 2_000_000_000


class StatCache:
    """Holds the contents of files by device, inode, size, mtime and ctime, and by how they were read."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._contents: OrderedDict[tuple[int, ...], Content] = OrderedDict()
        self._tensors = 0

    def find(self, status: os.stat_result, reading: Reading) -> Content | None:
        """Return the content of a file; None if it was not read as it is now."""
        with self._lock:
            key = (reading.weights, *stat_fields(status))
            content = self._contents.get(key)
            if content is not None:
                self._contents.move_to_end(key)
            return content

    def add(self, status: os.stat_result, reading: Reading, content: Content, read_at: int) -> None:
        """Add the content of a file, if it was digested.

        Parameters
        ----------
        status
            Its status before the reading, which was the same afterwards.
        reading, content
            How it was read, and what.
        read_at
            When the reading began, in nanoseconds by the wall clock. A file that changed just before may
            have changed again without a trace, and is not held.
        """
        if content.state != "digested" or read_at - status.st_mtime_ns < _SETTLED_NS:
            return
        with self._lock:
            key = (reading.weights, *stat_fields(status))
            self._contents[key] = content
            self._tensors += _tensors_of(content)
            while len(self._contents) > _MAX_FILES or self._tensors > _MAX_TENSORS:
                _, dropped = self._contents.popitem(last=False)
                self._tensors -= _tensors_of(dropped)

    def clear(self) -> None:
        """Forget everything; also in a forked child, where the lock may be held for ever."""
        self._lock = threading.Lock()
        self._contents, self._tensors = OrderedDict(), 0


def stat_fields(status: os.stat_result) -> list[int]:
    """Return what identifies a file until it was read, as a record has it."""
    fields = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    return [(number + 2**63) % 2**64 - 2**63 for number in fields]  # some file systems use all 64 bits


def _tensors_of(content: Content) -> int:
    return 0 if content.tensors is None else len(content.tensors.all)


STAT_CACHE = StatCache()
