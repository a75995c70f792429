"""A file of a journal that was left for a next one, and has no footer yet.

Flows in: the file, with its counts. Flows out: its footer. The maintenance writes it, as counting may take a
moment.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from flowprov import guard, records
from flowprov.journal.append_writer import AppendWriter
from flowprov.journal.end import create_footer
from flowprov.journal.event_counts import EventCounts, holds_line
from flowprov.journal.interruptions import pass_on
from flowprov.journal.opening import OpenFile
from flowprov.journal.queued_writer import QueuedWriter, count_lost
from flowprov.journal.write_failures import FileCut, JournalFull
from flowprov.journal.writer import Writer
from flowprov.regular_files import open_regular

_LOOK_BACK = 4 << 20


def holding_others(writer: Writer) -> contextlib.AbstractContextManager[object]:
    """Return a context in which no other thread appends by a writer that writes plainly."""
    if isinstance(writer, (AppendWriter, QueuedWriter)):
        return writer.holding_others()
    return contextlib.nullcontext()


class LeftFile:
    """A file that was left for a next one.

    Parameters
    ----------
    opened
        The file, with a writer that nobody else uses.
    counts
        The counts of its events.
    open_keys
        What was open when it was left.
    """

    def __init__(self, opened: OpenFile, counts: EventCounts, open_keys: list[records.LocalId]) -> None:
        self.opened = opened
        self.counts = counts
        self._open_keys = open_keys
        self._footer: bytes | None = None
        self._ended = False

    def end(self, *, sync: bool) -> None:
        """Write the footer and close the file; an interrupted call may be repeated."""
        writer = self.opened.writer
        with holding_others(writer):
            writer.limits = writer.limits._replace(roll_bytes=None)
            try:
                count_lost(self.counts, writer)
                if self._footer is None or not holds_line(writer, self._footer):
                    self._footer = records.encode(create_footer(self.counts.read(writer), self._open_keys))
                    self._append(self._footer)
                if sync:
                    writer.sync()
            except OSError as error:  # the program has closed the descriptor, for instance
                pass_on(error)
                self._warn(error)
            writer.close()
        self._ended = True

    def _append(self, line: bytes) -> None:
        try:
            self.opened.writer.append(line)
        except (OSError, JournalFull, FileCut) as error:
            pass_on(error)
            # On a full disk the slot behind the header is left: it was reserved for this.
            if not self.opened.reserved_slot.write(line):
                self._warn(error)

    def _warn(self, error: Exception) -> None:
        path = self.opened.path
        guard.warn_once(f"footer {path}", "flowprov could not close %s: %s", path, error)

    def holds(self, line: bytes) -> bool:
        """Whether the file holds a line that was appended shortly before it was left."""
        try:
            if not self._ended:
                return holds_line(self.opened.writer, line, _LOOK_BACK)
            return holds_line(_ClosedFile(self.opened.path), line, _LOOK_BACK)
        except OSError as error:
            pass_on(error)
            return False


class _ClosedFile:
    """A file that may be read once more."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def end(self) -> int:
        """Return its length."""
        return self._path.stat().st_size

    def read(self, length: int, offset: int) -> bytes:
        """Return some of its bytes."""
        descriptor = open_regular(self._path)
        try:
            return os.pread(descriptor, length, offset)
        finally:
            os.close(descriptor)
