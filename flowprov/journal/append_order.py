"""The order of the locks of a journal: its own first, then that of a writer.

Flows out: whether a thread may take the lock of the journal.

An append on the hot path takes the lock of the writer alone. A signal handler, a profiler or a finalizer may
record in the middle of it, and come to the lock of the journal while what it interrupted holds that of the
writer. Another thread may hold the former and wait for the latter. If the handler waited, too, both would
wait forever. So it does without the lock of the journal.

What it interrupted may also append to a file that was left for a next one. Then it may wait for the writer of
the present file, so whoever holds that one waits for no writer of a file that was left.
"""

from __future__ import annotations

import contextlib
import threading

from flowprov.journal.writer import Writer
from flowprov.locks import is_held_here


class AppendOrder:
    """What has a lock, and a writer with another one."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._writer: Writer | None = None

    def _left_writers(self) -> list[Writer]:
        """Return the writers of files that were left, or that are being created."""
        return []

    def is_mid_append(self) -> bool:
        """Whether this thread is in the middle of an append, and must not wait for the lock."""
        writers = [*self._left_writers(), self._writer]
        is_appending = any(writer is not None and writer.is_appending() for writer in writers)
        return is_appending and not is_held_here(self._lock)

    def lock_in_order(self) -> contextlib.AbstractContextManager[object]:
        """Return the lock, to be taken now; nothing that locks, if this thread must not wait for it."""
        return contextlib.nullcontext() if self.is_mid_append() else self._lock
