"""Going on when somebody has removed, moved, cut or closed the file of a journal, or when something failed.

Flows in: a look at each heartbeat, and at each opening of a workflow. Flows out: another file, in which the
workflows that are open are opened again; what was lost counts as dropped there.
"""

from __future__ import annotations

from flowprov.journal.append_writer import AppendWriter
from flowprov.journal.event_counts import holds_line
from flowprov.journal.file_succession import FileSuccession
from flowprov.journal.files import Fate
from flowprov.journal.interruptions import pass_on
from flowprov.journal.left_file import holding_others
from flowprov.journal.mmap_writer import MmapWriter
from flowprov.journal.write_failures import TRIAL, JournalFull, warn_gone
from flowprov.journal.writer import Writer


class FileRecovery(FileSuccession):
    """Appends to another file where something has befallen the present one."""

    def check_file(self) -> None:
        """Go on in another file if somebody has removed, moved, cut or closed the present one.

        Records that are gone with a removed file count as dropped in the next one. What a cut file has lost
        is found by its own footer. Where the records of their openings are gone, open workflows are opened
        again. Maintenance calls this at each heartbeat, capture when a workflow opens.
        """
        if self.is_mid_append():
            return
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
        self.end_left_files()  # before others are held: who appends to one of them may wait for this one
        with holding_others(writer):
            if self._maintenance is not None:
                self._maintenance.forget(self)
            if not out_of_reach:
                self._counts.distrust()  # another thread may have appended what it did not count yet
            if fate != "removed":
                if fate != "moved":
                    self._append_control(b"\n")  # the last line may have lost its end
                kept = set() if fate == "moved" else self._openings_in(writer)
                self.close(goes_on=True)
                self._rotate()
                return kept, 0
            _, lost, dropped = self.counts()
            writer.close()
            self._rotate()
            self._carry(dropped, lost)
            return set(), lost

    def append_opening(self, workflow_id: str, line: bytes) -> None:
        """Append the opening of a workflow, and keep it for as long as the workflow is open."""
        self.check_file()
        self._openings = {key: kept for key, kept in self._openings.items() if key in self.open_scopes}
        self._openings[workflow_id] = line
        self.append(line)

    def _openings_in(self, writer: Writer) -> set[str]:
        return {workflow_id for workflow_id, line in self._openings.items() if holds_line(writer, line)}

    def try_again(self) -> None:
        """Try again what failed for a while: to append, to map the file, to go on in a next one."""
        with self._lock:
            if self.closed:
                return
            if self._stoppage is not None and self._stoppage.may_pass():
                self._stoppage.retry_at = 0.0
                self._append_or_stop(TRIAL)
            plain_writer = self._writer
            was_mapped = self._opened is not None and isinstance(self._opened.writer, MmapWriter)
            if self._stoppage is None and was_mapped and isinstance(plain_writer, AppendWriter):
                try:
                    limits = self.limits()._replace(roll_bytes=None)
                    self._writer = plain_writer.map_again(
                        lambda file, begin: MmapWriter(file, limits, begin=begin)
                    )
                except (OSError, JournalFull) as error:  # it is tried again at the next heartbeat
                    pass_on(error)
            self._discard_unused()
            if self._writer is not None:
                self._writer.limits = self.limits()
