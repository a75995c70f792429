"""The journal of one process for one campaign: the message buffer.

Flows in: encoded lines from capture. Flows out: a file that readers and sinks follow. This module holds the
numbers of tasks, the heartbeats, the footer and the succession of files. ``line_appender`` knows what happens
to a line, and the writer alone knows how bytes reach the file.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable

import msgspec
import uuid_utils

from flowprov import guard, records
from flowprov.clock import clock
from flowprov.journal.format import RESERVED_SLOT
from flowprov.journal.header import Identity
from flowprov.journal.internal_errors import bounded_internal_errors
from flowprov.journal.interruptions import pass_on
from flowprov.journal.line_appender import LineAppender
from flowprov.journal.protocols import Maintenance, ScopeHolder
from flowprov.settings import JournalSettings

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

    def write_control(self, record: records.Record) -> bool:
        """Append a control record, which no count includes; return False, and warn once, if that failed."""
        error = self._append_control(records.encode(record))
        self._warn_not_written(error)
        return error is None

    def _warn_not_written(self, error: Exception | None) -> None:
        if error is not None and self._stop_reason is None and not self.closed:
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
            current_writer.prepare()

    def write_heartbeat(self) -> None:
        """Write a heartbeat, and an open record for each open scope that has none yet."""
        current_writer = self._writer
        if current_writer is None or self.closed:
            return
        clock.follow_wall_clock()
        scopes = [scope for holder in list(self.open_scopes.values()) if (scope := holder.current_scope())]
        still_open = [(scope.workflow_id if scope.key is None else scope.key, scope) for scope in scopes]
        for _, scope in still_open:
            if (
                scope.open_in != self.journal_id
                and (line := scope.open_line()) is not None
                and self._append_control(line) is None
            ):
                scope.open_in = self.journal_id
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

    def close(self) -> None:
        """Write the footer, cut the padding and close the file; an interrupted call may be repeated."""
        with self._lock:
            if self._writer is None:
                self.closed = True
                return
            if not self.closed:
                self._write_footer()
                self.closed = True
                if self.settings.sync != "off":
                    self._writer.sync()
            self._writer.close()

    def _write_footer(self) -> None:
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

    def _write_to_slot(self, record: records.Heartbeat | records.Footer) -> bool:
        line = records.encode(record)
        if len(line) >= RESERVED_SLOT:
            line = records.encode(msgspec.structs.replace(record, internal_errors=None))
        with self._lock:  # a late heartbeat must not overwrite the footer
            return not self.closed and self._reserved_slot is not None and self._reserved_slot.write(line)

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
        self.first_number = self.next_number()
        self.journal_id = uuid_utils.uuid7().hex
        self._reset()

    def full_id(self, key: records.LocalId) -> str:
        """Return the full form of an id of this journal."""
        return records.full_id(key, self.journal_id, self.ancestors, self.first_number)
