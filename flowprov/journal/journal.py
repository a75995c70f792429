"""The journal of one process for one campaign: the message buffer.

Flows in: encoded lines from capture. Flows out: a file that readers and sinks follow. Here live the header,
the numbering of tasks, the counts, the heartbeats and the footer; how bytes reach the file is the writer's
business.

The counts obey ``captured = written + dropped`` at every moment. What could not be kept is counted by its
reason and said once; nothing is raised into the program.
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
from flowprov.journal.mmap_writer import MmapWriter
from flowprov.journal.protocols import Maintenance, ScopeHolder
from flowprov.settings import JournalSettings

_OPEN_IN_SLOT = 20  # open scopes that are named where there is little room


class Journal:
    """An append-only file of records; created at its first one.

    Parameters
    ----------
    settings
        The ``journal`` part of the settings.
    identity
        What to say of this process in the header.
    maintenance
        Looks after the journal from the moment its file is created.

    Attributes
    ----------
    journal_id
        Identifies the journal, and is the prefix of the ids of its tasks.
    next_number
        Call it for the number of a new task.
    count, fast_append
        What :meth:`append` does, for those who cannot afford the call: count a record, then hand it to the
        writer; where that raises, :meth:`append_slowly` takes over.
    open_scopes
        What is open now, by number or workflow id: scopes, and loops, which know their iteration. Heartbeats
        read it.
    main_thread
        Identifier of the thread that the header names; other threads are named in each record.
    exact_reader
        Takes a reading of telemetry for a record, as JSON; None where none is taken inline.
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
        self.ancestors: list[tuple[str, int]] = []
        self.next_number = itertools.count().__next__
        self._maintenance = maintenance
        self._lock = threading.RLock()
        self.open_scopes: dict[records.LocalId, ScopeHolder] = {}
        self.exact_reader: Callable[[], bytes] | None = None
        self._reset()

    def _reset(self) -> None:
        self.closed = False
        self._written_open: set[records.LocalId] = set()
        self.count = itertools.count(1).__next__
        self._counts_taken = 0
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

    def append_slowly(self, line: bytes, error: Exception) -> None:
        """Append what the quick way refused: the file is new, a segment is full, or there is trouble."""
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
            made = self._make_writer(kind, created.descriptor)
        except Exception:  # a disk that is full from the start: nothing is left open
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
        made.append(header)
        made.append(padding_line(RESERVED_SLOT))
        self._reserved_slot = ReservedSlot(created.path, len(header))
        if self._campaign is not None:
            made.append(records.encode(self._campaign))
        self.path, self._writer = created.path, made
        self._on_switch(made.fast_append)
        if self._maintenance is not None:
            self._maintenance.watch(self)

    def _make_writer(self, kind: str, descriptor: int) -> writer.Writer:
        if kind == "write":
            return AppendWriter(descriptor, self.settings.max_bytes)
        return MmapWriter(descriptor, self.settings.max_bytes, on_switch=self._on_switch)

    def _on_switch(self, fast_append: Callable[[bytes], object]) -> None:
        """Use the new segment of the writer, and have the next one prepared."""
        self.fast_append = self._append_and_sync if self.settings.sync == "record" else fast_append
        if self._maintenance is not None:
            self._maintenance.wake()

    def _append_and_sync(self, line: bytes) -> None:
        made = self._writer
        if made is None:
            raise _NotOpenError
        made.append(line)
        made.sync()

    def _stop(self, error: Exception) -> None:
        """Stop journaling for a reason that will not pass by itself, and say so once."""
        if self._stop_reason is not None:
            return
        if self.closed:
            self._stop_reason = "closed"
        else:
            self._stop_reason = error.reason if isinstance(error, writer.JournalFull) else "write_error"
        self.fast_append = _raise_stopped
        what = {
            "disk_full": "the disk is full",
            "max_bytes": "journal.max_bytes is reached",
            "closed": "it was closed before, at the end of the process",
        }.get(self._stop_reason, f"writing fails ({error})")
        guard.warn_once(
            f"stopped {self.journal_id}",
            "flowprov stops recording in %s: %s. The program goes on; from now on its events are counted as "
            "dropped (%s). Records written so far are safe.",
            self.path or self.settings.path,
            what,
            self._stop_reason,
        )

    def drop(self, reason: str) -> None:
        """Count an event that was met and could not be made a record."""
        with self._lock:
            self.count()
            self._dropped[reason] += 1

    def counts(self) -> tuple[int, int, dict[str, int]]:
        """Give (captured, written, dropped by reason) so far."""
        with self._lock:
            # Reading an itertools.count takes one from it; how many were taken is known.
            self._counts_taken += 1
            captured = self.count() - self._counts_taken
            dropped = dict(self._dropped)
        return captured, captured - sum(dropped.values()), dropped

    def write_control(self, record: records.Record) -> bool:
        """Append a control record: it is not counted; if it is lost, that is said once, and told."""
        error = self._append_control(records.encode(record))
        if error is not None and self._stop_reason is None and not self.closed:
            guard.warn_once(
                f"control {self.journal_id}",
                "flowprov could not write to %s (%s): a correction, a name or a sample is missing there. "
                "Events that find no room will be counted as dropped, and that will be said.",
                self.path,
                error,
            )
        return error is None

    def _append_control(self, line: bytes) -> Exception | None:
        """Append a control line; gives why it could not be.

        It does not stop the journal: where a long line finds no room a short event may, and a disk that is
        full now need not be when the next event comes. An event that finds none stops it.
        """
        if self._writer is None:
            return None  # nothing was captured, so there is nothing to say
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
        made = self._writer
        if made is not None and not self.closed:
            made.prepare()

    def write_heartbeat(self) -> None:
        """Write a heartbeat, and an open record for each scope met open for the first time."""
        made = self._writer
        if made is None or self.closed:
            return
        clock.follow_wall_clock()
        opened = [scope for holder in list(self.open_scopes.values()) if (scope := holder.current_scope())]
        still_open = [(scope.workflow_id if scope.key is None else scope.key, scope) for scope in opened]
        unsaid = {
            key
            for key, scope in still_open
            if key not in self._written_open
            and (line := scope.open_line()) is not None
            and self._append_control(line) is not None
        }
        self._written_open = {key for key, _ in still_open} - unsaid
        captured, written, dropped = self.counts()
        heartbeat = records.Heartbeat(
            at=clock.now(),
            captured=captured,
            written=written,
            dropped=dropped or None,
            open=[key for key, _ in still_open[:100]],
        )
        if self._append_control(records.encode(heartbeat)) is not None:
            fewer = [key for key, _ in still_open[:_OPEN_IN_SLOT]]
            self._write_to_slot(records.encode(msgspec.structs.replace(heartbeat, open=fewer)))
        if self.settings.sync == "interval":
            try:
                made.sync()
            except OSError as error:
                guard.warn_once("sync", "flowprov cannot flush %s to the disk: %s", self.path, error)

    def close(self) -> None:
        """Write the footer, cut the padding and close the file."""
        with self._lock:
            if self.closed or self._writer is None:
                self.closed = True
                return
            captured, written, dropped = self.counts()
            footer = records.encode(
                records.Footer(
                    at=clock.now(),
                    captured=captured,
                    written=written,
                    dropped=dropped or None,
                    open=list(itertools.islice(self.open_scopes, _OPEN_IN_SLOT)) or None,
                )
            )
            try:
                self._writer.append(footer)
            except Exception as error:  # a full disk: the room behind the header was kept for this
                if not self._write_to_slot(footer):
                    guard.warn_once(
                        f"footer {self.journal_id}", "flowprov could not close %s: %s", self.path, error
                    )
            self.closed = True
            if self.settings.sync != "off":
                self._writer.sync()
            self._writer.close()

    def _write_to_slot(self, line: bytes) -> bool:
        with self._lock:  # a heartbeat that comes late must not take the place of the footer
            return not self.closed and self._reserved_slot is not None and self._reserved_slot.write(line)

    def reopen_after_fork(self, maintenance: Maintenance) -> None:
        """In a forked child: leave the parent's file as it is and go on in a new journal.

        Scopes that were open at the fork stay valid as parents here, since numbering goes on; their own
        records are the parent's to write.
        """
        if self._writer is not None:
            self._writer.abandon()
        self.main_thread = threading.get_ident()
        self._maintenance = maintenance
        self._lock = threading.RLock()
        self.open_scopes = {}
        self._rotate()

    def close_if_idle(self) -> bool:
        """Close the file if nothing is open in it; an event that comes after all begins another one."""
        with self._lock:
            if self.open_scopes or self.closed:
                return False
            if self._writer is not None:
                if self._maintenance is not None:
                    self._maintenance.forget(self)
                self.close()  # what another thread appends at this very moment may be counted here
                self._rotate()
            return True

    def _rotate(self) -> None:
        """Have the next record begin another file; numbers that were given stay those of this one."""
        self.ancestors = [*self.ancestors, (self.journal_id, self.first_number)]
        self.first_number = self.next_number()
        self.journal_id = uuid_utils.uuid7().hex
        self.path = None
        self._reset()

    def full_id(self, key: records.LocalId) -> str:
        """Give the full form of an id of this journal."""
        return records.full_id(key, self.journal_id, self.ancestors, self.first_number)


def _raise_not_open(_line: bytes) -> None:
    raise _NotOpenError


def _raise_stopped(_line: bytes) -> None:
    raise _StoppedError


class _NotOpenError(Exception):
    """The file is created at the first record."""


class _StoppedError(Exception):
    """Journaling stopped, for a reason that was said."""
