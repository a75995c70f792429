"""What a journal does when it cannot be written: the disk is full, a limit is reached, the device fails.

Flows in: the error of an append. Flows out: the reason under which events count as dropped from then on, and
a warning that says so; another one when the shortage has passed. The program goes on.
"""

from __future__ import annotations

import errno
import time

from flowprov import guard
from flowprov.journal.format import padding_line
from flowprov.journal.interruptions import OwnSignal


class JournalFull(OwnSignal):
    """The journal can grow no more; losses are counted under ``reason``."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class FileGrown(OwnSignal):
    """The file is as large as it should become: the journal goes on in a next one."""


class FileCut(OwnSignal):
    """Somebody else has cut the file of the journal."""


# Written to find out whether the disk has space again: it takes as much as a small event.
TRIAL = padding_line(512)
_MAX_WARNINGS = 5  # of one journal that stops again and again
_FINAL = ("max_bytes", "closed")
_CAUSES = {
    "disk_full": "the disk is full",
    "max_bytes": "journal.max_bytes is reached",
    "queue_full": "its file system does not answer, and the queue in memory is full",
    "closed": "it was closed before, at the end of the process",
}
# Limits that count as a full disk.
_LIMITS = {
    errno.EFBIG: "the limit of this process on the size of a file is reached (ulimit -f)",
    errno.EDQUOT: "the disk quota is reached",
}


def drop_reason(error: BaseException, *, closed: bool) -> str:
    """Return the reason under which events are dropped after an append failed.

    Parameters
    ----------
    error
        What the append raised.
    closed
        Whether the journal was closed before.
    """
    if closed:
        return "closed"
    return error.reason if isinstance(error, JournalFull) else "write_error"


class Stoppage:
    """Why a journal does not record at the moment.

    Attributes
    ----------
    reason
        The reason under which its events count as dropped.
    dropped_before
        The number of events that were dropped before.
    number
        How often the journal has stopped.
    retry_at
        When it tries again, by the monotonic clock.
    """

    def __init__(self, reason: str, dropped_before: int, number: int, retry_at: float) -> None:
        self.reason = reason
        self.dropped_before = dropped_before
        self.number = number
        self.retry_at = retry_at

    def may_pass(self) -> bool:
        """Whether it is worth trying again: a disk may be freed, a limit of the system be reached no more."""
        return self.reason not in _FINAL

    def is_due(self) -> bool:
        """Whether it is time to try again."""
        return self.may_pass() and time.monotonic() >= self.retry_at

    def warn(self, path: object, error: BaseException, retry_s: float) -> None:
        """Warn that a journal stops, why, and that events are counted as dropped from now on."""
        if self.number > _MAX_WARNINGS:
            return
        again = f"It is tried again every {retry_s:g} seconds. " if self.may_pass() else ""
        guard.warn_once(
            f"stopped {path} {self.number}",
            "flowprov stops recording in %s: %s. The program goes on; from now on its events are counted as "
            "dropped (%s). %sRecords written so far are safe.",
            path,
            _limit_of(error) or _CAUSES.get(self.reason, f"writing fails ({error})"),
            self.reason,
            again,
        )

    def warn_over(self, path: object, dropped: int) -> None:
        """Warn that a journal goes on, and how many events were dropped meanwhile."""
        if self.number <= _MAX_WARNINGS:
            guard.warn_once(
                f"resumed {path} {self.number}",
                "flowprov records again in %s. Meanwhile %d events were dropped (%s).",
                path,
                dropped - self.dropped_before,
                self.reason,
            )


def _limit_of(error: BaseException) -> str | None:
    """Return which limit stopped a journal; None if it was none."""
    cause = error.__cause__ if isinstance(error, JournalFull) else None
    return _LIMITS.get(cause.errno or 0) if isinstance(cause, OSError) else None


def warn_gone(path: object, how: str, lost: int, *, goes_on: bool) -> None:
    """Warn once that the file of a journal is gone, and how many records are lost with it."""
    guard.warn_once(
        f"gone {path}",
        "flowprov: somebody has %s %s while it was being written.%s%s",
        how,
        path,
        f" {lost} records are lost with it." if lost else "",
        " Recording goes on in another file." if goes_on else "",
    )
