"""The journal of one process for one campaign: the message buffer.

Flows in: encoded lines from capture. Flows out: a file that readers and sinks follow. This module holds the
numbers of tasks, the heartbeats, the footer and the succession of files. ``line_appender`` knows what happens
to a line, and the writer alone knows how bytes reach the file.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from collections.abc import Callable

import msgspec

from flowprov import guard, records
from flowprov.clock import clock
from flowprov.ids import full_id, new_journal_id
from flowprov.journal.append_writer import AppendWriter
from flowprov.journal.end import End
from flowprov.journal.event_counts import holds_line
from flowprov.journal.files import Fate, fate_of
from flowprov.journal.format import RESERVED_SLOT
from flowprov.journal.header import Identity
from flowprov.journal.internal_errors import bounded_internal_errors
from flowprov.journal.interruptions import pass_on
from flowprov.journal.line_appender import LineAppender
from flowprov.journal.mmap_writer import MmapWriter
from flowprov.journal.opening import create_writer
from flowprov.journal.protocols import Maintenance, OpenScope, ScopeHolder
from flowprov.journal.queued_writer import QueuedWriter
from flowprov.journal.write_failures import JournalFull, warn_gone
from flowprov.journal.writer import Writer
from flowprov.settings import JournalSettings

# Open records that are written in one go, and the pause in seconds after them: a program may have a hundred
# thousand scopes open, and each write holds the GIL.
_PAUSE_AFTER, _PAUSE_S = 200, 0.002
_OPEN_IN_SLOT = 20  # open scopes that a record in the reserved slot names


class Journal(LineAppender):
    """An append-only file of records, which the first record creates.

    Parameters
    ----------
    settings
        The ``journal`` part of the settings.
    identity
        The facts about this process for the header.
    maintenance
        Maintains the journal from the moment at which its file is created.

    Attributes
    ----------
    next_number
        Function that returns the number of a new task.
    own_from
        The first number that this process gave. A forked child inherits the scopes of its parent with smaller
        numbers, and the parent records their ends.
    open_scopes
        What is open now, by task number or workflow id: scopes, and loops, which know their iteration.
        Heartbeats read it.
    main_thread
        Identifier of the thread that the header names. Records of other threads name their thread.
    exact_reader
        Function that returns an exact reading of telemetry as JSON; None where records take none.
    """

    def __init__(
        self, settings: JournalSettings, identity: Identity, maintenance: Maintenance | None = None
    ) -> None:
        super().__init__(settings, identity, maintenance)
        self.main_thread = threading.main_thread().ident
        self.own_from = 0
        self.next_number = itertools.count().__next__
        self.open_scopes: dict[records.LocalId, ScopeHolder] = {}
        self.exact_reader: Callable[[], bytes] | None = None
        self._openings: dict[str, bytes] = {}
        self._end: End | None = None

    def write_control(self, record: records.Record) -> bool:
        """Append a control record, which no count includes; return False, and warn once, if that failed."""
        error = self._append_control(records.encode(record))
        self._warn_not_written(error)
        return error is None

    def _warn_not_written(self, error: Exception | None) -> None:
        if error is not None and self._stoppage is None and not self.closed:
            guard.warn_once(
                f"control {self.journal_id}",
                "flowprov could not write to %s (%s): a correction, a name or a sample is missing there. "
                "Events that cannot be written will be counted as dropped, and a warning will say so.",
                self.path,
                error,
            )

    def append_addition(self, line: bytes) -> None:
        """Append what the program gave to a task: a control line, which creates the file if there is none."""
        try:
            self.fast_append(line)
        except Exception as error:  # whatever the disk does, the program goes on; a warning says so
            pass_on(error)
            with self._lock:
                if self._writer is None and self._append_or_stop(line):
                    return
            self._warn_not_written(self._append_control(line))

    def name_campaign(self, campaign: records.Campaign) -> None:
        """Record the name of the campaign."""
        with self._lock:
            self._campaign = campaign
            self.write_control(campaign)

    def prepare(self) -> None:
        """Let the writer do its background work."""
        current_writer = self._writer
        if current_writer is not None and not self.closed:
            # The writer's lock inside this one, as everywhere: the garbage collector may run captured code in
            # the middle of this.
            with self._lock:
                current_writer.prepare()

    def write_heartbeat(self) -> None:
        """Write a heartbeat, and an open record for each open scope that has none yet."""
        self.check_file()
        self.try_again()
        current_writer = self._writer
        if current_writer is None or self.closed:
            return
        clock.follow_wall_clock()
        scopes = [scope for holder in list(self.open_scopes.values()) if (scope := holder.current_scope())]
        still_open = [(scope.workflow_id if scope.key is None else scope.key, scope) for scope in scopes]
        self._write_open_records([scope for _, scope in still_open])
        captured, written, dropped = self.counts()
        heartbeat = records.Heartbeat(
            at=clock.now(),
            captured=captured,
            written=written,
            dropped=dropped or None,
            open=[key for key, _ in still_open[:100]],
            internal_errors=bounded_internal_errors(),
        )
        if self._append_control(records.encode(heartbeat)) is not None:
            fewer = [key for key, _ in still_open[:_OPEN_IN_SLOT]]
            self._write_to_slot(msgspec.structs.replace(heartbeat, open=fewer))
        if self.settings.sync == "interval":
            try:
                current_writer.sync()
            except OSError as error:
                guard.warn_once("sync", "flowprov cannot flush %s to the disk: %s", self.path, error)

    def _write_open_records(self, scopes: list[OpenScope]) -> None:
        """Write an open record for each scope that has none in this file, and let other threads go on."""
        count = 0
        for scope in scopes:
            if (
                scope.open_in != self.journal_id
                and (line := scope.open_line()) is not None
                and self._append_control(line) is None
            ):
                scope.open_in = self.journal_id
                count += 1
                if count % _PAUSE_AFTER == 0:
                    time.sleep(_PAUSE_S)

    def close(self) -> None:
        """Write the footer, cut the padding and close the file; an interrupted call may be repeated."""
        with self._lock:
            if self._writer is None:
                self.closed = True
                return
            if not self.closed:
                fate = self._fate()
                removed = fate == "removed" or (fate == "closed" and not self._reopen_file())
                if removed or fate == "closed":
                    lost = self.counts()[1] if removed else 0
                    warn_gone(self.path, fate or "removed", lost, goes_on=False)
                if not removed:
                    self._end = self._write_footer()
                self.closed = True
                if self.settings.sync != "off" and not removed:
                    self._writer.sync()
            self._writer.close()

    def _fate(self) -> Fate:
        """Return what somebody else has done to the file; None for nothing."""
        opened, writer = self._opened, self._writer
        if opened is None or writer is None or self.closed:
            return None

        def look() -> Fate:
            return fate_of(opened.path, opened.file) or ("cut" if writer.is_cut() else None)

        fate: Fate = writer.run(look) if isinstance(writer, QueuedWriter) else look()
        return fate

    def check_file(self) -> None:
        """Go on in another file if somebody has removed, moved, cut or closed the present one.

        Records that are gone with a removed file count as dropped in the next one. What a cut file has lost
        is found by its own footer. Where the records of their openings are gone, open workflows are opened
        again. Maintenance calls this at each heartbeat, capture when a workflow opens.
        """
        with self._lock:
            fate, path = self._fate(), self.path
            if fate is None or self._busy:
                return
            self._busy = True
            try:
                kept, lost = self._leave_file(fate)
            finally:
                self._busy = False
            warn_gone(path, fate, lost, goes_on=True)
            for workflow_id, line in self._openings.items():
                if workflow_id in self.open_scopes and workflow_id not in kept:
                    self.append(line)
            self._settle_all()

    def _leave_file(self, fate: Fate) -> tuple[set[str], int]:
        """Close the file, and have the next record create another.

        Returns
        -------
        set, int
            The workflows whose openings the file keeps, and how many records are lost.
        """
        if fate == "closed" and not self._reopen_file():
            fate = "removed"
        writer, opened = self._writer, self._opened
        if writer is None or opened is None:
            return set(), 0
        out_of_reach = not opened.file.is_ours()
        if out_of_reach:
            writer.close()
        elif isinstance(writer, MmapWriter):
            # From here on no other thread writes to this file. Where it was cut, nobody touches a page that
            # is gone, which would kill the process.
            writer = self._writer = writer.write_plainly()
        with writer.lock if isinstance(writer, (AppendWriter, QueuedWriter)) else contextlib.nullcontext():
            if self._maintenance is not None:
                self._maintenance.forget(self)
            if not out_of_reach:
                self._counts.distrust()  # another thread may have appended what it did not count yet
            if fate != "removed":
                if fate != "moved":
                    self._append_control(b"\n")  # the last line may have lost its end
                kept = set() if fate == "moved" else self._openings_in(writer)
                self.close()
                self._rotate()
                self._counts.distrust()  # it counts that event here
                return kept, 0
            _, lost, dropped = self.counts()
            writer.close()
            self._rotate()
            self._carry(dropped, lost)
            return set(), lost

    def _reopen_file(self) -> bool:
        """Open a file again that the program has closed, to end it; return False if it is not there."""
        opened, writer = self._opened, self._writer
        if opened is None or writer is None:
            return False
        is_mapped = isinstance(writer, MmapWriter)
        if not is_mapped:
            writer.close()  # else other threads would append by it, beside the one that is created here
        if not opened.file.reopen():
            return False
        if not is_mapped:
            self._writer = create_writer(self.settings, opened)
        return True

    def append_opening(self, workflow_id: str, line: bytes) -> None:
        """Append the opening of a workflow, and keep it for as long as the workflow is open."""
        self.check_file()
        self._openings = {key: kept for key, kept in self._openings.items() if key in self.open_scopes}
        self._openings[workflow_id] = line
        self.append(line)

    def _openings_in(self, writer: Writer) -> set[str]:
        return {workflow_id for workflow_id, line in self._openings.items() if holds_line(writer, line)}

    def _append_late(self, line: bytes) -> bool:
        try:
            if self.path is None:  # nothing was captured before the end
                self.closed, self._watched = False, True  # no maintenance: it has ended
                try:
                    self._open_file()
                finally:
                    self.close()
            if self._end is not None:
                self._end = self._end.append_event(line)
                return True
        except (OSError, JournalFull) as error:
            pass_on(error)
            guard.logger.debug("flowprov could not record after the end of %s: %s", self.path, error)
        return super()._append_late(line)

    def _write_footer(self) -> End | None:
        captured, written, dropped = self.counts()
        footer = records.Footer(
            at=clock.now(),
            captured=captured,
            written=written,
            dropped=dropped or None,
            open=list(itertools.islice(self.open_scopes, _OPEN_IN_SLOT)) or None,
            internal_errors=bounded_internal_errors(),
        )
        error = self._append_control(records.encode(footer))
        # On a full disk the slot behind the header is left: it was reserved for this.
        if error is not None and not self._write_to_slot(footer):
            guard.warn_once(f"footer {self.journal_id}", "flowprov could not close %s: %s", self.path, error)
        if self._opened is None or isinstance(self._writer, QueuedWriter):  # its file may hang
            return None
        return End(self._opened.path, self._opened.file, footer)

    def _write_to_slot(self, record: records.Heartbeat | records.Footer) -> bool:
        line = records.encode(record)
        if len(line) >= RESERVED_SLOT:
            line = records.encode(msgspec.structs.replace(record, internal_errors=None))
        with self._lock:  # a late heartbeat must not overwrite the footer
            return not self.closed and self._opened is not None and self._opened.reserved_slot.write(line)

    def reopen_after_fork(self, maintenance: Maintenance) -> None:
        """Leave the parent's file as it is and continue in a new journal, in a forked child.

        Scopes that were open at the fork stay valid as parents in the child, as the numbers go on. The parent
        process writes the records of those scopes.
        """
        if self._writer is not None:
            self._writer.abandon()
        self.main_thread = threading.get_ident()
        self._maintenance = maintenance
        self._lock = threading.RLock()
        self.open_scopes = {}
        self._openings, self._unsettled, self._busy, self._settling = {}, [], False, False
        self._rotate()
        self.own_from = self.first_number

    def close_if_idle(self) -> bool:
        """Close the file if no scope is open in it, else return False; a later event creates a new file."""
        with self._lock:
            if self.open_scopes or self.closed:
                return False
            if self._writer is not None:
                if self._maintenance is not None:
                    self._maintenance.forget(self)
                self.close()  # its counts may include an event that another thread appends just now
                self._rotate()
            return True

    def _rotate(self) -> None:
        """Have the next record create a new file; task numbers so far still mean the tasks of this file."""
        self.ancestors = [*self.ancestors, (self.journal_id, self.first_number)]
        if self.path is not None:
            self._previous = self.journal_id
        self.first_number = self.next_number()
        self.journal_id = new_journal_id()
        self._reset()

    def full_id(self, key: records.LocalId) -> str:
        """Return the full form of an id of this journal."""
        return full_id(key, self.journal_id, self.ancestors, self.first_number)
