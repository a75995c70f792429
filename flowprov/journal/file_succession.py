"""The succession of the files of a journal: why one is left, and how recording goes on in the next.

Flows in: what happens to the file: it is as large as it should become, or somebody removes, moves, cuts or
closes it. Flows out: another file, whose header names the one before, and the end of that one.

A journal rolls when its file has reached ``journal.roll_bytes``. First the next file is created; where that
fails, recording goes on in this one, and it is tried again at the next heartbeat. Then nobody appends to this
one any more, and the maintenance ends it with its footer. So a kill at any moment finds each record in one of
the two.
"""

from __future__ import annotations

import itertools

from flowprov import guard, records
from flowprov.ids import new_journal_id
from flowprov.journal import files
from flowprov.journal.end import End, create_footer
from flowprov.journal.event_counts import Counts, EventCounts, may_be_uncounted
from flowprov.journal.files import Fate, fate_of
from flowprov.journal.header import Identity
from flowprov.journal.interruptions import pass_on
from flowprov.journal.left_file import LeftFile, holding_others
from flowprov.journal.line_appender import LineAppender
from flowprov.journal.mmap_writer import MmapWriter
from flowprov.journal.opening import OpenFile, create_writer, discard_unused, open_file
from flowprov.journal.protocols import Maintenance, ScopeHolder
from flowprov.journal.queued_writer import QueuedWriter
from flowprov.journal.refusals import raise_not_open
from flowprov.journal.write_failures import JournalFull, warn_gone
from flowprov.journal.writer import SizeLimits, Writer
from flowprov.settings import JournalSettings

_MAX_LEFT = 2  # files that wait for their footers
# The header of a file names all before it. So that it stays short, files become twice as large whenever a
# process has left so many: 64 MB up to 16 GB of records, and 1,500 files for a terabyte.
_DOUBLED_AFTER = 256


class FileSuccession(LineAppender):
    """Appends to one file after the other.

    Attributes
    ----------
    next_number
        Function that returns the number of a new task.
    open_scopes
        What is open now, by task number or workflow id: scopes, and loops, which know their iteration.
        Heartbeats read it.
    """

    def __init__(
        self, settings: JournalSettings, identity: Identity, maintenance: Maintenance | None
    ) -> None:
        super().__init__(settings, identity, maintenance)
        self.next_number = itertools.count().__next__
        self.open_scopes: dict[records.LocalId, ScopeHolder] = {}
        self._openings: dict[str, bytes] = {}
        self._end: End | None = None
        self._open_records_in = self.journal_id  # the first of the files that are read as one
        self._forget_files()

    def _forget_files(self) -> None:
        """Forget the files before, in a forked child: they belong to the parent."""
        self._left: list[LeftFile] = []
        self._last_left: LeftFile | None = None
        self._next: OpenFile | None = None
        self._next_id: str | None = None
        self._rolls = self._bytes_before = self._size = 0

    def _left_writers(self) -> list[Writer]:
        """Return the writers of files that were left, or that are being created."""
        return [left.opened.writer for left in self._left] + [one.writer for one in (self._next,) if one]

    # -- going on in a next file -------------------------------------------------------------------------

    def limits(self) -> SizeLimits:
        """Return how large the file may become."""
        most, roll_bytes = self.settings.max_bytes, self.settings.roll_bytes
        return SizeLimits(
            None if most is None else most - self._bytes_before,
            None if roll_bytes is None else roll_bytes << self._rolls // _DOUBLED_AFTER,
        )

    def roll(self, full: Writer, *, in_event: bool = False) -> None:
        """Go on in a next file; where that fails, in this one until the next heartbeat.

        Parameters
        ----------
        full
            The writer of the file that should grow no more; nothing happens if there is another by now.
        in_event
            Whether an event is being appended, and not a control line.
        """
        full.limits = full.limits._replace(roll_bytes=None)
        if self._busy or self.closed:
            return
        self._settle_all()  # lines that may stand in this file
        # First of all: a signal handler that records an event here might roll, too.
        self._busy = True
        try:
            if self._writer is full and self._opened is not None:
                self._leave(full, self._opened, in_event=in_event)
        except (OSError, JournalFull) as error:
            pass_on(error)
            guard.count(f"going on in a next file: {type(error).__name__}")
            guard.warn_once(
                f"roll {self.journal_id}",
                "flowprov could not create the file in which %s should go on (%s). Recording goes on in this "
                "one, and it is tried again every %g seconds.",
                self.path,
                error,
                self.settings.heartbeat,
            )
        finally:
            self._busy = False

    def _leave(self, writer: Writer, opened: OpenFile, *, in_event: bool) -> None:
        """Leave the file for a next one, unless it holds nothing yet, or something has happened to it."""
        if writer.end() <= opened.beginning or self._fate() is not None:
            return  # what happened to it is seen at the next heartbeat
        most = self.limits().max_bytes
        if most is not None and most - writer.end() < 2 * opened.beginning:
            return  # it is the last one
        if isinstance(writer, MmapWriter):
            # Only a file that is written plainly can be kept from other threads.
            writer = self._writer = writer.write_plainly()
        with holding_others(writer):
            self._go_on_in_next(writer, opened, in_event=in_event)
        # Not in there: who records in the middle of an append to a file that was left waits for this one.
        if len(self._left) > _MAX_LEFT or self._maintenance is None:
            self.end_left_files()

    def _go_on_in_next(self, writer: Writer, opened: OpenFile, *, in_event: bool) -> None:
        """Create the next file, and append to it from now on; nobody else appends meanwhile."""
        ancestors = [*self.ancestors, (self.journal_id, self.first_number)]
        first_number = self.next_number()
        try:
            journal_id = self._next_id = self._next_id or new_journal_id()  # of a try that was interrupted
            following = self._next = self._create_next(writer, opened, first_number, ancestors)
            left = LeftFile(opened._replace(writer=writer), self._counts, list(self.open_scopes))
            counts = EventCounts()
            if may_be_uncounted(in_event=in_event):
                left.counts.distrust()
                counts.distrust()
            before, lefts, rolls = self._bytes_before + writer.end(), [*self._left, left], self._rolls + 1
            writer.limits = writer.limits._replace(roll_bytes=0)  # who waits to append is sent to the next
        except BaseException:  # of a signal handler: it passes on
            writer.limits = writer.limits._replace(roll_bytes=None)
            if (unused := self._next) is not None:
                self._next = None
                discard_unused(unused)
            raise
        # No call until the end: an exception from outside finds all of this done or nothing.
        self._previous = self.journal_id
        self._left, self._last_left = lefts, left
        self._bytes_before, self._rolls = before, rolls
        self.ancestors = ancestors
        self.first_number = first_number
        self.journal_id = journal_id
        self._opened, self.path, self._writer = following, following.path, following.writer
        self._next = self._next_id = self._writer_append = None
        self._counts, self.count = counts, counts.count
        self._watched = False
        self.fast_append = raise_not_open

    def _create_next(
        self, writer: Writer, opened: OpenFile, first_number: int, ancestors: list[tuple[str, int]]
    ) -> OpenFile:
        most, is_late = self.limits().max_bytes, False
        limits = self.limits()._replace(max_bytes=None if most is None else most - writer.end())

        def create() -> OpenFile:
            following = open_file(
                self.settings,
                self.identity,
                self._campaign,
                self._next_id or "",
                first_number=first_number,
                ancestors=ancestors,
                previous=self.journal_id,
                limits=limits,
                beside=opened.path,
            )
            if is_late:
                discard_unused(following)
            return following

        if not isinstance(writer, QueuedWriter):
            return create()
        following = writer.run(create)
        if following is None:
            is_late = True
            raise TimeoutError("its file system does not answer")
        return following  # type: ignore[no-any-return]

    def _discard_unused(self) -> None:
        """Remove a next file that was created, and that an exception from outside kept from being used."""
        if self._next_id is not None and self._opened is not None and not self._busy:
            unused_id, self._next_id = self._next_id, None
            files.discard_beside(self._opened.path, self.journal_id, unused_id)

    def end_left_files(self) -> None:
        """Write the footers of the files that were left for a next one, and close them."""
        with self._lock:
            while self._left:
                self._left[0].end(sync=self.settings.sync != "off")
                del self._left[0]

    def _holds(self, line: bytes) -> bool:
        return super()._holds(line) or (self._last_left is not None and self._last_left.holds(line))

    # -- the end -----------------------------------------------------------------------------------------

    def close(self, *, goes_on: bool = False) -> None:
        """Write the footer and close the file; an interrupted call may be repeated, or the journal go on."""
        with self._lock:
            self._goes_on = goes_on
            self.end_left_files()
            self._discard_unused()
            if self._writer is None:
                self.closed = True
                return
            if not self.closed:
                fate = self._fate()
                removed = fate == "removed" or (fate == "closed" and not self._reopen_file())
                if removed or fate == "closed":
                    lost = self.counts()[1] if removed else 0
                    warn_gone(self.path, fate or "removed", lost, goes_on=False)
                try:
                    if not removed:
                        self._write_end(self._writer)
                    self.closed = True
                except OSError:  # as of a device that is gone
                    self.closed = True
                    raise
            self._writer.close()

    def _write_end(self, writer: Writer) -> None:
        """Write the footer; once more, if an event came to the file beside it, as of a signal handler."""
        with holding_others(writer):
            writer.limits = writer.limits._replace(roll_bytes=None)
            try:
                for _ in range(3):  # a handler may come again, but not forever
                    self._hold_back_others()
                    counts = self.counts()
                    self._end = self._write_footer(counts)
                    self._size = writer.end()
                    if self.settings.sync != "off":
                        writer.sync()
                    if writer.end() == self._size and self.counts() == counts:
                        break
            except BaseException:  # of a signal handler: the next event follows the writer again
                self._writer_append = None
                raise
            self.closed = True
            writer.close()

    def _hold_back_others(self) -> None:
        """Have other threads wait for the lock with their next events; what they append now is counted."""
        self.fast_append = raise_not_open
        if may_be_uncounted(in_event=False):
            self._counts.distrust()

    def _write_footer(self, counts: Counts) -> End | None:
        footer = create_footer(counts, self.open_scopes)
        error = self._append_control(records.encode(footer))
        # On a full disk the slot behind the header is left: it was reserved for this.
        if error is not None and not self._write_to_slot(footer):
            guard.warn_once(f"footer {self.journal_id}", "flowprov could not close %s: %s", self.path, error)
        if self._opened is None or isinstance(self._writer, QueuedWriter):  # its file may hang
            return None
        return End(self._opened.path, self._opened.file, footer)

    def _write_to_slot(self, record: records.Heartbeat | records.Footer) -> bool:
        with self._lock:  # a late heartbeat must not overwrite the footer
            return (
                not self.closed
                and self._opened is not None
                and self._opened.reserved_slot.write_record(record)
            )

    # -- what befalls the file ---------------------------------------------------------------------------

    def _fate(self) -> Fate:
        """Return what somebody else has done to the file; None for nothing."""
        opened, writer = self._opened, self._writer
        if opened is None or writer is None or self.closed:
            return None

        def look() -> Fate:
            return fate_of(opened.path, opened.file) or ("cut" if writer.is_cut() else None)

        return writer.run(look) if isinstance(writer, QueuedWriter) else look()

    def _reopen_file(self) -> bool:
        """Open a file again that the program has closed, to end it; return False if it is not there."""
        opened, writer = self._opened, self._writer
        if opened is None or writer is None:
            return False
        is_mapped = isinstance(writer, MmapWriter)
        if not is_mapped:
            writer.close()  # else other threads would append by it, beside the one that is created here
        is_open = opened.file.reopen()
        if is_open and not is_mapped:
            self._writer = following = create_writer(self.settings, opened, self.limits())
            if isinstance(following, QueuedWriter) and isinstance(writer, QueuedWriter):
                following.go_on_from(writer)
        return is_open

    def _rotate(self, *, alone: bool = False) -> None:
        """Have the next record create a new file; task numbers so far still mean the tasks of this file.

        Parameters
        ----------
        alone
            Whether no other thread is here, as in a forked child. One may count in the new file an event that
            it wrote to this one.
        """
        counts = EventCounts()
        if not alone:
            counts.distrust()
        ancestors = [*self.ancestors, (self.journal_id, self.first_number)]
        previous = self._previous if self.path is None else self.journal_id
        self._bytes_before, self._size = self._bytes_before + self._size, 0
        self._open_records_in = new_journal_id()
        self._begin(self._open_records_in, self.next_number(), ancestors, previous, counts)
