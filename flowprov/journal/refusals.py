"""What the hot path meets where a line cannot go to the file at once.

Flows in: a line. Flows out: nothing; what is raised tells the caller to take the long way.
"""

from __future__ import annotations

from flowprov.journal.interruptions import OwnSignal


class NotOpenError(OwnSignal):
    """The file does not exist yet: the first record creates it."""


class StoppedError(OwnSignal):
    """Journaling stopped; a warning gave the reason."""


def raise_not_open(_line: bytes) -> None:
    """Refuse a line on the hot path, where there is no file to which it could be appended at once."""
    raise NotOpenError


def raise_stopped(_line: bytes) -> None:
    """Refuse a line on the hot path, where journaling has stopped."""
    raise StoppedError
