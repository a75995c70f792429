"""The journal of one process for one campaign: the message buffer.

Flows in: encoded lines from capture. Flows out: a file that readers and sinks follow. This module holds the
control records and the heartbeats. ``file_recovery`` knows what to do when something befell the file,
``file_succession`` when recording goes on in another one, ``line_appender`` what happens to a line, and the
writer alone how bytes reach the file.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import msgspec

from flowprov import guard, records
from flowprov.clock import clock
from flowprov.ids import full_id
from flowprov.journal.end import MAX_OPEN
from flowprov.journal.file_recovery import FileRecovery
from flowprov.journal.header import Identity
from flowprov.journal.internal_errors import bounded_internal_errors
from flowprov.journal.interruptions import pass_on
from flowprov.journal.own_file import FileTaken
from flowprov.journal.protocols import Maintenance, OpenScope
from flowprov.journal.write_failures import FileCut, JournalFull
from flowprov.settings import JournalSettings

# Open records that are written in one go, and the pause in seconds after them: a program may have a hundred
# thousand scopes open, and each write holds the GIL.
_PAUSE_AFTER, _PAUSE_S = 200, 0.002


class Journal(FileRecovery):
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
        self.exact_reader: Callable[[], bytes] | None = None

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
            if self.is_mid_append():
                self._append_in_append(line, in_event=False)
                return
            with self._lock:
                if (self._writer is None or self._finish_idle_close()) and self._append_or_stop(line):
                    return
            failure = self._append_control(line)
            if isinstance(failure, (FileCut, FileTaken)):
                with self._lock:
                    if self._append_or_stop(line):
                        return
            self._warn_not_written(failure)

    def name_campaign(self, campaign: records.Campaign) -> None:
        """Record the name of the campaign."""
        with self.lock_in_order():
            self._campaign = campaign
            self.write_control(campaign)

    def prepare(self) -> None:
        """Let the writer do its background work, and end the files that were left for others."""
        if self._left:
            self.end_left_files()
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
            fewer = [key for key, _ in still_open[:MAX_OPEN]]
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
                scope.open_in != self._open_records_in
                and (line := scope.open_line()) is not None
                and self._append_control(line) is None
            ):
                scope.open_in = self._open_records_in
                count += 1
                if count % _PAUSE_AFTER == 0:
                    time.sleep(_PAUSE_S)

    def _append_late(self, line: bytes) -> bool:
        if self._finish_idle_close():
            return self._append_or_stop(line)
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

    def reopen_after_fork(self, maintenance: Maintenance) -> None:
        """Leave the parent's file as it is and continue in a new journal, in a forked child.

        Scopes that were open at the fork stay valid as parents in the child, as the numbers go on. The parent
        process writes the records of those scopes.
        """
        for open_writer in (*self._left_writers(), self._writer):
            if open_writer is not None:
                open_writer.abandon()
        self.main_thread = threading.get_ident()
        self._maintenance = maintenance
        self._lock = threading.RLock()
        self.open_scopes = {}
        self._openings, self._unsettled, self._busy, self._settling = {}, [], False, False
        self._forget_files()
        self._rotate(alone=True)
        self.own_from = self.first_number

    def close_if_idle(self) -> bool:
        """Close the file if no scope is open in it, else return False; a later event creates a new file."""
        if self.is_mid_append():
            return False
        with self._lock:
            if self.open_scopes or (self.closed and not self._finish_idle_close()):
                return False
            if self._writer is not None:
                if self._maintenance is not None:
                    self._maintenance.forget(self)
                self.close(goes_on=True)
                self._rotate()
            return True

    def _finish_idle_close(self) -> bool:
        """Go on behind an idle file whose close was interrupted; return whether there was one."""
        if self.closed and self._goes_on:
            self.close(goes_on=True)
            self._rotate()
            return True
        return False

    def full_id(self, key: records.LocalId) -> str:
        """Return the full form of an id of this journal."""
        return full_id(key, self.journal_id, self.ancestors, self.first_number)
