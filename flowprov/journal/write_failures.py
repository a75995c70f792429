"""What a journal does when it cannot be written: the disk is full, a limit is reached, the device fails.

Flows in: the error of an append. Flows out: the reason under which events count as dropped from then on, and
one warning that says so. The program goes on.
"""

from __future__ import annotations

from flowprov import guard
from flowprov.journal.interruptions import OwnSignal


class JournalFull(OwnSignal):
    """The journal can grow no more; losses are counted under ``reason``."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


_CAUSES = {
    "disk_full": "the disk is full",
    "max_bytes": "journal.max_bytes is reached",
    "closed": "it was closed before, at the end of the process",
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


def warn_stopped(journal_id: str, path: object, reason: str, error: BaseException) -> None:
    """Warn once that a journal stops, why, and that events are counted as dropped from now on."""
    guard.warn_once(
        f"stopped {journal_id}",
        "flowprov stops recording in %s: %s. The program goes on; from now on its events are counted as "
        "dropped (%s). Records written so far are safe.",
        path,
        _CAUSES.get(reason, f"writing fails ({error})"),
        reason,
    )
