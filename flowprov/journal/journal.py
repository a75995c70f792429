"""The journal of one process for one campaign: the message buffer.

Flows in: encoded lines from capture. Flows out: a file that readers and sinks follow. This module holds the
numbers of tasks, the counts, the heartbeats and the footer. The writer alone knows how bytes reach the file.

The counts obey ``captured = written + dropped`` at every moment. An event that cannot be written is counted
by its reason, and a warning names the first one. Nothing is raised into the program.
"""

from __future__ import annotations

import itertools
import os
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import msgspec
import uuid_utils

from flowprov import guard, records
from flowprov.clock import clock
from flowprov.journal import files, writer
from flowprov.journal.append_writer import AppendWriter
from flowprov.journal.files import ReservedSlot
from flowprov.journal.format import RESERVED_SLOT, padding_line
from flowprov.journal.header import Identity, make_header
from flowprov.journal.internal_errors import bounded_internal_errors
from flowprov.journal.mmap_writer import MmapWriter
from flowprov.journal.protocols import Maintenance, ScopeHolder
from flowprov.journal.write_failures import drop_reason, warn_stopped
from flowprov.settings import JournalSettings

_OPEN_IN_SLOT = 20  # open scopes that a record in the reserved slot names


class Journal:
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
    journal_id
        Id of the journal, and the prefix of the ids of its tasks.
    next_number
        Function that returns the number of a new task.
    count, fast_append
        The two steps of :meth:`append`, for the hot path, which saves the call: count a record, then pass it
        to the writer. Where ``fast_append`` raises, the caller calls :meth:`append_slowly`.
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
        self.journal_id = uuid_utils.uuid7().hex
        self.identity = identity
        self.settings = settings
        self._campaign = identity.campaign
        self.path: Path | None = None
        self.main_thread = threading.main_thread().ident
        self.first_number = 0
        self.own_from = 0
        self.ancestors: list[tuple[str, int]] = []
        self.next_number = itertools.count().__next__
        self._maintenance = maintenance
        self._lock = threading.RLock()
        self.open_scopes: dict[records.LocalId, ScopeHolder] = {}
        self.exact_reader: Callable[[], bytes] | None = None
        self._reset()

    def _reset(self) -> None:
        self.closed = False
        self.count = itertools.count(1).__next__
        self._count_reads = 0
        self._dropped: Counter[str] = Counter()
        self._writer: writer.Writer | None = None
        self.fast_append: Callable[[bytes], object] = (
            _raise_not_open  # the writer's own, once the file exists
        )
        self._stop_reason: str | None = None
        self._reserved_slot: ReservedSlot | None = None

    # -- the hot path -------------------------------------------------------------------------------------

    def append(self, line: bytes) -> None:
        """Append one captured record, or count it as dropped."""
        self.count()
        try:
            self.fast_append(line)
        except Exception as error:  # whatever the disk does, the program goes on; it is counted
            self.append_slowly(line, error)

    # -- everything else ----------------------------------------------------------------------------------

    def append_slowly(self, line: bytes, error: BaseException) -> None:
        """Append a line that ``fast_append`` refused: no file yet, a full segment, or a failed write."""
        guard.pass_on(error)
        with self._lock:
            try:
                if self._stop_reason is None and not self.closed:
                    if self._writer is None:
                        self._create_file()
                        self._writer.append(line)  # type: ignore[attr-defined]
                        return
                    if isinstance(error, (ValueError, _NotOpenError)):
                        self._writer.append(line)
                        return
            except Exception as later_error:  # as above
                error = later_error
            self._stop(error)
            self._dropped[self._stop_reason or "fault"] += 1

    def _create_file(self) -> None:
        buffer = Path(self.settings.path)
        kind = writer.choose_writer(self.settings.writer, files.nearest_existing(buffer))
        created = files.create_journal_file(
            buffer,
            self.identity.campaign_id,
            self.identity.hostname,
            self.journal_id,
            appending=kind == "write",
        )
        if self.settings.writer == "auto" and not created.path.is_relative_to(buffer):
            kind = kind if kind == "write" else writer.choose_writer("auto", created.path.parent)
        try:
            new_writer = self._create_writer(kind, created.descriptor)
        except Exception:  # the disk is full from the start: leave no descriptor open
            os.close(created.descriptor)
            raise
        header = records.encode(
            make_header(
                self.identity,
                self.journal_id,
                heartbeat_s=self.settings.heartbeat,
                first_number=self.first_number,
                ancestors=self.ancestors,
            )
        )
        new_writer.append(header)
        new_writer.append(padding_line(RESERVED_SLOT))
        self._reserved_slot = ReservedSlot(created.path, len(header))
        if self._campaign is not None:
            new_writer.append(records.encode(self._campaign))
        self.path, self._writer = created.path, new_writer
        self._on_switch(new_writer.fast_append)
        if self._maintenance is not None:
            self._maintenance.watch(self)

    def _create_writer(self, kind: str, descriptor: int) -> writer.Writer:
        if kind == "write":
            return AppendWriter(descriptor, self.settings.max_bytes)
        return MmapWriter(descriptor, self.settings.max_bytes, on_switch=self._on_switch)

    def _on_switch(self, fast_append: Callable[[bytes], object]) -> None:
        """Append to the writer's new segment from now on, and have the next one prepared."""
        self.fast_append = self._append_and_sync if self.settings.sync == "record" else fast_append
        if self._maintenance is not None:
            self._maintenance.wake()

    def _append_and_sync(self, line: bytes) -> None:
        current_writer = self._writer
        if current_writer is None:
            raise _NotOpenError
        current_writer.append(line)
        current_writer.sync()

    def _stop(self, error: BaseException) -> None:
        """Stop journaling for a reason that will not pass by itself, and warn once."""
        if self._stop_reason is not None:
            return
        self._stop_reason = drop_reason(error, closed=self.closed)
        self.fast_append = _raise_stopped
        warn_stopped(self.journal_id, self.path or self.settings.path, self._stop_reason, error)

    def drop(self, reason: str) -> None:
        """Count an event that was captured and could not be made a record."""
        with self._lock:
            self.count()
            self._dropped[reason] += 1

    def counts(self) -> tuple[int, int, dict[str, int]]:
        """Return the counts so far: captured, written, and dropped by reason."""
        with self._lock:
            # Reading an itertools.count advances it; the reads are counted and subtracted.
            self._count_reads += 1
            captured = self.count() - self._count_reads
            dropped = dict(self._dropped)
        return captured, captured - sum(dropped.values()), dropped

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
            guard.pass_on(error)
            with self._lock:
                if self._writer is None and self._stop_reason is None and not self.closed:
                    with guard.guarded("creating a journal"):
                        self._create_file()
            self._warn_not_written(self._append_control(line))

    def _append_control(self, line: bytes) -> Exception | None:
        """Append a control line; return the error if that failed, else None.

        A failure does not stop the journal: a short event may still fit where a long line does not, and a
        full disk may have space again when the next event comes. An event that does not fit stops the
        journal.
        """
        if self._writer is None:
            return None  # nothing was captured, so the journal has no file
        if self._stop_reason is not None:
            return _StoppedError(self._stop_reason)
        try:
            self._writer.append(line)
        except Exception as error:  # whatever the disk does, the program goes on
            guard.logger.debug("flowprov could not write a control record: %s", error)
            return error
        return None

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
        """Write the footer, cut the padding and close the file."""
        with self._lock:
            if self.closed or self._writer is None:
                self.closed = True
                return
            captured, written, dropped = self.counts()
            footer = records.Footer(
                at=clock.now(),
                captured=captured,
                written=written,
                dropped=dropped or None,
                open=list(itertools.islice(self.open_scopes, _OPEN_IN_SLOT)) or None,
                internal_errors=bounded_internal_errors(),
            )
            try:
                self._writer.append(records.encode(footer))
            except Exception as error:  # a full disk: the slot behind the header was reserved for this
                if not self._write_to_slot(footer):
                    guard.warn_once(
                        f"footer {self.journal_id}", "flowprov could not close %s: %s", self.path, error
                    )
            self.closed = True
            if self.settings.sync != "off":
                self._writer.sync()
            self._writer.close()

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
        self.path = None
        self._reset()

    def full_id(self, key: records.LocalId) -> str:
        """Return the full form of an id of this journal."""
        return records.full_id(key, self.journal_id, self.ancestors, self.first_number)


def _raise_not_open(_line: bytes) -> None:
    raise _NotOpenError


def _raise_stopped(_line: bytes) -> None:
    raise _StoppedError


class _NotOpenError(Exception):
    """The file does not exist yet: the first record creates it."""


class _StoppedError(Exception):
    """Journaling stopped; a warning gave the reason."""
