"""Appending to a journal, whatever the disk does and whatever arrives meanwhile.

Flows in: encoded lines. Flows out: a file, through its writer, and the counts of its events.

The counts obey ``captured = written + dropped`` at every moment. An event that cannot be written is counted
by its reason, and a warning names the first one. No fault of flowprov is raised into the program.

An exception from outside (of a signal handler, for instance) may arrive at any instruction of an append. It
passes on, whatever its class, and recording goes on. The line that it interrupted is settled: recorded, or
counted as dropped. A signal handler may also record events of its own: the locks are reentrant, and
``append_order`` says which of them it must not wait for.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from pathlib import Path

from flowprov import guard
from flowprov.ids import new_journal_id
from flowprov.journal.append_order import AppendOrder
from flowprov.journal.event_counts import Counts, EventCounts, holds_line
from flowprov.journal.header import Identity
from flowprov.journal.interruptions import pass_on
from flowprov.journal.mmap_writer import MmapWriter
from flowprov.journal.opening import OpenFile, open_file
from flowprov.journal.own_file import FileTaken
from flowprov.journal.protocols import Maintenance
from flowprov.journal.queued_writer import count_lost
from flowprov.journal.refusals import NotOpenError, StoppedError, raise_not_open, raise_stopped
from flowprov.journal.write_failures import FileCut, FileGrown, JournalFull, Stoppage, drop_reason
from flowprov.journal.writer import SizeLimits, Writer
from flowprov.settings import JournalSettings


class LineAppender(AppendOrder):
    """Appends the lines of one process to the file of its journal, which the first line creates.

    Attributes
    ----------
    journal_id
        Id of the journal, and the prefix of the ids of its tasks.
    path
        Its file; None if there is none yet.
    fast_append, count
        The two steps of :meth:`append`, for the hot path, which saves the call: pass a record to the writer,
        then count it. Where either raises anything, the caller calls :meth:`append_slowly`.
    closed
        Whether the file is closed.
    """

    def __init__(
        self, settings: JournalSettings, identity: Identity, maintenance: Maintenance | None
    ) -> None:
        super().__init__()
        self.identity = identity
        self.settings = settings
        self._campaign = identity.campaign
        self._maintenance = maintenance
        self._unsettled: list[bytes] = []
        self._last_settled: bytes | None = None
        self._busy = self._settling = False
        self._begin(new_journal_id(), 0, [], None, EventCounts())

    def _begin(
        self,
        own: str,
        first: int,
        ancestors: list[tuple[str, int]],
        previous: str | None,
        counts: EventCounts,
    ) -> None:
        """Have the next line create a file; ``previous`` is the last of the ancestors that has one."""
        # No call until the end: an exception from outside finds all of this done or nothing.
        self.journal_id, self.first_number, self.ancestors, self._previous = own, first, ancestors, previous
        self.path: Path | None = None
        self.closed = self._goes_on = False
        self._counts, self.count = counts, counts.count
        self._writer = None
        self._writer_append: Callable[[bytes], object] | None = None  # on which fast_append is based
        self.fast_append: Callable[[bytes], object] = raise_not_open  # the writer's own, once the file exists
        self._stoppage: Stoppage | None = None
        self._watched, self._stops = False, 0
        self._opened: OpenFile | None = None

    def append(self, line: bytes) -> None:
        """Append one captured record, or count it as dropped.

        Raises
        ------
        BaseException
            An exception from outside, which is none of flowprov's. The line is settled then.
        """
        try:
            try:
                self.fast_append(line)
                self.count()
            except BaseException as error:  # whatever the disk does, the program goes on; see append_slowly
                self.append_slowly(line, error)
        except BaseException:  # raised on; it may have arrived before append_slowly could settle the line
            self.settle(line)
            raise

    def append_slowly(self, line: bytes, error: BaseException) -> None:
        """Append a line that ``fast_append`` refused: no file yet, a full segment, or a failed write.

        Parameters
        ----------
        line
            The line.
        error
            What ``fast_append`` or ``count`` raised.

        Raises
        ------
        BaseException
            ``error`` or a later exception, if it came from outside. The line is settled then.
        """
        counted = False
        try:
            pass_on(error)
            if self.is_mid_append():
                self._append_in_append(line)
                return
            with self._lock:
                if self._append_or_stop(line):
                    self.count()
                    self._settle_all()
                else:
                    self._counts.drop(self._stoppage.reason if self._stoppage else "fault")
                    counted = True
        except BaseException as arrived:  # from outside, or a fault of ours; the guard knows
            if not counted:
                self.settle(line)
            guard.report_internal_error("appending a record", arrived)

    def settle(self, line: bytes) -> None:
        """Make the counts whole after an exception from outside interrupted the append of a line.

        The line is recorded, if it is not in the file yet; if that fails, it is counted as dropped, with the
        reason ``interrupted``. Calling this twice for one line changes nothing more.
        """
        if line is self._last_settled:
            return
        self._unsettled.append(line)  # if another exception arrives from here on, counts() settles the line
        self._counts.distrust()
        if not self.is_mid_append():
            with self._lock:
                self._settle_all()

    def _append_in_append(self, line: bytes, *, in_event: bool = True) -> None:
        """Append a line without the lock: no file is created, left or ended here, and this one may grow.

        Where that is not possible, the next thread that holds the lock settles the line.
        """
        writer = self._writer
        try:
            if writer is not None and not self.closed and self._stoppage is None:
                writer.limits = writer.limits._replace(roll_bytes=None)
                writer.append(line)
                if in_event:
                    self.count()
                return
        except (OSError, JournalFull, FileCut, FileGrown) as error:
            pass_on(error)
        self._unsettled.append(line)
        self._counts.distrust()

    def _settle_all(self) -> None:
        """Record the lines whose append was interrupted; the caller holds the lock."""
        if self._busy or self._settling:
            return  # a signal handler records an event just here: what it interrupted goes on with this
        while self._unsettled:
            line = self._unsettled[0]
            self._settling = True
            try:
                recorded = self._holds(line) or self._append_or_stop(line)
            except Exception as error:  # a fault of ours must not come again at each count
                pass_on(error)
                recorded = False
            finally:
                self._settling = False
            self._counts.distrust()  # of the file in which the line is: it may be another one by now
            if not recorded:
                self._counts.drop("interrupted")
            self._last_settled = line
            self._unsettled.remove(line)

    def _holds(self, line: bytes) -> bool:
        """Whether the file holds a line that was appended a moment ago, or was about to be."""
        return self._writer is not None and not self.closed and holds_line(self._writer, line)

    def _append_or_stop(self, line: bytes, *, again: bool = False) -> bool:
        """Append a line, to a new file if there is none; return False if journaling stopped or stops now.

        Parameters
        ----------
        line
            The line.
        again
            Whether the line comes again, as somebody did something to the file.
        """
        if self._busy:  # a signal handler records this: what it interrupted appends it afterwards
            self._unsettled.append(line)
            self._counts.distrust()
            return True
        if self.closed:
            return self._append_late(line)
        if self._stoppage is not None and not self._stoppage.is_due():
            return False
        try:
            if self._writer is None:
                self._open_file()
            self._append_to_file(line, in_event=True)
        except (OSError, JournalFull, FileCut) as error:
            pass_on(error)
            if isinstance(error, (FileCut, FileTaken)) and not again:
                self.check_file()
                return self._append_or_stop(line, again=True)
            self._stop(error)
            return False
        self._end_stoppage()
        return True

    @property
    def stopped_by(self) -> str | None:
        """The reason for which events are dropped at the moment; None if they are recorded."""
        return None if self._stoppage is None else self._stoppage.reason

    def _append_late(self, line: bytes) -> bool:  # noqa: ARG002 - a journal knows how
        """Append a line after the end; return False if that failed."""
        self._stop(StoppedError("closed"))
        return False

    def check_file(self) -> None:
        """Go on in another file if somebody has removed, moved, cut or closed the present one."""

    def roll(self, full: Writer, *, in_event: bool = False) -> None:
        """Go on in a next file, if that is possible; else in this one, which may grow for a while."""

    def limits(self) -> SizeLimits:
        """Return how large the file may become."""
        return SizeLimits(self.settings.max_bytes)

    # While ``_busy`` is set the file changes, and what a signal handler of the program records waits. It is
    # set and reset by plain stores: a context manager could be interrupted in between.

    def _open_file(self) -> None:
        self._busy = True
        try:
            if self._writer is not None:
                return  # a signal handler has recorded an event just before
            opened = open_file(
                self.settings,
                self.identity,
                self._campaign,
                self.journal_id,
                first_number=self.first_number,
                ancestors=self.ancestors,
                previous=self._previous,
                limits=self.limits(),
            )
            # One after the other, without a call in between: an exception finds all of this done or nothing.
            self._opened, self.path, self._writer = opened, opened.path, opened.writer
        finally:
            self._busy = False

    def _write_plainly(self, writer: MmapWriter) -> Writer:
        """Write plainly from now on: there is no memory, descriptor or space for another segment."""
        with self._lock:
            self._busy = True
            try:
                if self._writer is writer:
                    self._writer = writer.write_plainly()
                return self._writer or writer
            finally:
                self._busy = False

    def _append_to_file(self, line: bytes, *, in_event: bool = False) -> None:
        """Append a line through the writer, and follow it if it has changed to another segment.

        What was interrupted here happens at the next call: until then ``fast_append`` refuses each line.
        """
        writer = self._writer
        if writer is None:
            raise NotOpenError
        try:
            writer = self._append_by(writer, line)
        except FileGrown:
            if self.is_mid_append():
                self._append_in_append(line, in_event=False)
                return
            with self._lock:
                self.roll(writer, in_event=in_event)  # the next file takes the line, or now this one
                self._append_to_file(line, in_event=in_event)
        except io.UnsupportedOperation:  # the file is closed
            if self._writer is writer:
                raise
            self._append_to_file(line, in_event=in_event)  # a signal handler has just left it for another one
        else:
            if self._writer_append is not writer.fast_append:
                self._follow(writer)

    def _append_by(self, writer: Writer, line: bytes) -> Writer:
        """Append a line; return the writer that took it, another one if the file cannot be mapped."""
        try:
            writer.append(line)
        except (OSError, JournalFull) as error:
            pass_on(error)
            final = isinstance(error, FileTaken) or error.args == ("max_bytes",) or self.closed or self._busy
            if final or self.is_mid_append() or not isinstance(writer, MmapWriter):
                raise
            writer = self._write_plainly(writer)
            writer.append(line)
        return writer

    def _follow(self, writer: Writer) -> None:
        self._watch()
        if self._maintenance is not None:
            self._maintenance.wake()  # have the next segment prepared
        now = writer.fast_append
        self.fast_append = self._append_and_sync if self.settings.sync == "record" else now
        self._writer_append = now

    def _watch(self) -> None:
        if self._maintenance is not None and not self._watched:
            self._maintenance.watch(self)
            self._watched = True

    def _append_and_sync(self, line: bytes) -> None:
        current_writer = self._writer
        if current_writer is None:
            raise NotOpenError
        current_writer.append(line)
        try:
            current_writer.sync()
        except OSError as error:
            pass_on(error)
            with self.lock_in_order():
                self._stop(error)  # this line is in the file

    # -- stopping, and going on --------------------------------------------------------------------------

    def _stop(self, error: Exception) -> None:
        """Stop recording until the next try, and warn."""
        retry_at = time.monotonic() + self.settings.heartbeat
        if self._stoppage is not None:
            self._stoppage.retry_at = retry_at
        else:
            self._stops += 1
            reason = drop_reason(error, closed=self.closed)
            self._stoppage = Stoppage(reason, self._counts.dropped(), self._stops, retry_at)
            self._writer_append, self.fast_append = None, raise_stopped
            self._stoppage.warn(self.path or self.settings.path, error, self.settings.heartbeat)
            self._watch()  # it tries again, also where there is no file yet

    def _end_stoppage(self) -> None:
        stoppage, self._stoppage = self._stoppage, None
        if stoppage is not None:
            stoppage.warn_over(self.path, self._counts.dropped())

    def drop(self, reason: str) -> None:
        """Count an event that was captured and could not be made a record."""
        with self.lock_in_order():
            self._counts.drop(reason)

    def _carry(self, dropped: dict[str, int], removed: int) -> None:
        """Begin the counts of this file with what the one before has lost."""
        self._counts = EventCounts({**dropped, "removed": dropped.get("removed", 0) + removed})
        self._counts.distrust()  # another thread may count an event that it wrote to the file before
        self.count = self._counts.count

    def counts(self) -> Counts:
        """Return the counts so far: captured, written, and dropped by reason."""
        with self._lock:
            self._settle_all()
            count_lost(self._counts, self._writer)
            return self._counts.read(None if self.closed else self._writer)

    def _append_control(self, line: bytes) -> Exception | None:
        """Append a control line; return the error if that failed, else None.

        A failure does not stop the journal: a short event may still fit where a long line does not, and a
        full disk may have space again when the next event comes. An event that does not fit stops the
        journal.
        """
        if self._writer is None:
            return None  # nothing was captured, so the journal has no file
        if self._stoppage is not None:
            return StoppedError(self._stoppage.reason)
        try:
            self._append_to_file(line)
        except Exception as error:  # whatever the disk does, the program goes on
            pass_on(error)
            guard.logger.debug("flowprov could not write a control record: %s", error)
            return error
        return None
